//! A client that speaks the protocol by hand.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use windlass_wire_pg::{
    backend::{self, Authentication, tag},
    frontend,
    scram::{ClientFirst, Keys, SCRAM_SHA_256},
    startup::{self, CancelKey},
};

use super::world::{SOON, World};

pub(super) struct Raw {
    pub(super) stream: TcpStream,
    pub(super) key: CancelKey,
    /// Bytes of the last answer.
    pub(super) last: Vec<u8>,
}

impl Raw {
    pub(super) async fn connect(world: &World, user: &str) -> Self {
        Self::connect_as(world, user, startup::VERSION_3_0).await.0
    }

    /// Asks for a version of the protocol; with the body of what negotiates it.
    pub(super) async fn connect_as(world: &World, user: &str, version: u32) -> (Self, Option<Vec<u8>>) {
        let mut raw = Self {
            stream: TcpStream::connect(world.address).await.unwrap(),
            key: CancelKey { pid: 0, secret: 0 },
            last: Vec::new(),
        };
        let mut out = Vec::new();
        startup::write_startup(&mut out, [("user", user), ("database", "loom")]);
        out[4..8].copy_from_slice(&version.to_be_bytes());
        raw.stream.write_all(&out).await.unwrap();
        let mut negotiated = None;
        let first = ClientFirst::new("a nonce".replace(' ', "-").as_str());
        let mut last = None;
        loop {
            let (kind, body) = raw.message().await;
            let mut out = Vec::new();
            match kind {
                tag::AUTHENTICATION => match Authentication::parse(&body).unwrap() {
                    Authentication::Sasl(_) => {
                        frontend::write_sasl_initial(&mut out, SCRAM_SHA_256, first.message().as_bytes());
                    }
                    Authentication::SaslContinue(data) => {
                        let text = std::str::from_utf8(data).unwrap();
                        let salt = text.split(",s=").nth(1).unwrap().split(',').next().unwrap();
                        let salt = base64_decode(salt);
                        let keys = Keys::from_password(b"loom", &salt, 4096).unwrap().0;
                        let (next, message) = first.answer(&keys, data).unwrap();
                        last = Some(next);
                        frontend::write_sasl_response(&mut out, message.as_bytes());
                    }
                    Authentication::SaslFinal(data) => last.take().unwrap().check(data).unwrap(),
                    Authentication::Ok => {}
                    Authentication::Other(other) => panic!("{other}"),
                },
                tag::BACKEND_KEY => raw.key = backend::backend_key(&body).unwrap(),
                tag::NEGOTIATE => negotiated = Some(body),
                tag::READY => return (raw, negotiated),
                tag::ERROR => panic!("{}", String::from_utf8_lossy(&body)),
                _ => {}
            }
            raw.stream.write_all(&out).await.unwrap();
        }
    }

    pub(super) async fn message(&mut self) -> (u8, Vec<u8>) {
        let read = async {
            let kind = self.stream.read_u8().await.unwrap();
            let length = self.stream.read_u32().await.unwrap();
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.stream.read_exact(&mut body).await.unwrap();
            (kind, body)
        };
        tokio::time::timeout(SOON, read).await.expect("an answer comes")
    }

    /// Sends simple queries in one write.
    pub(super) async fn queries(&mut self, texts: &[&str]) {
        let mut out = Vec::new();
        for text in texts {
            frontend::write_query(&mut out, text);
        }
        self.stream.write_all(&out).await.unwrap();
    }

    /// The kinds of messages up to the next ReadyForQuery.
    pub(super) async fn until_ready(&mut self) -> String {
        self.last.clear();
        let mut kinds = String::new();
        loop {
            let (kind, body) = self.message().await;
            kinds.push(char::from(kind));
            self.last.extend_from_slice(&body);
            if kind == tag::READY {
                return kinds;
            }
        }
    }
}

fn base64_decode(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
