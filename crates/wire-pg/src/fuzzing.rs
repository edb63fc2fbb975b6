//! What is fuzzed: functions that take any bytes and panic if a promise of this crate is broken.
//!
//! `fuzz/` runs them under cargo-fuzz; the tests below run them with random and with nearly right input on every build.

use crate::frame::{HEADER_BYTES, Header, MAX_MESSAGE, Piece, Splitter};
use crate::scram::{Binding, ClientFirst, Keys, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ServerFirst, Verifier};
use crate::{backend, frontend, report, startup};

/// First packets: a packet that reads back has its own length, and nothing above the limit is awaited.
pub fn first_packet(data: &[u8]) {
    if let Ok(Some(length)) = startup::packet_len(data) {
        assert!(length <= startup::MAX_STARTUP);
        if let Some(packet) = data.get(..length) {
            let _ = startup::parse(packet);
        }
    }
    if let Ok(startup::First::Start(start)) = startup::parse(data) {
        let total: usize = start.parameters.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        assert!(total < data.len(), "parameters come from the packet");
    }
}

/// Framing: in whatever chunks a stream comes and whatever is asked for, its bytes come out once and in order. The
/// first byte chooses the chunks, the second what is asked for.
pub fn framing(data: &[u8]) {
    let [chunk, wanted, stream @ ..] = data else { return };
    let chunk = usize::from(*chunk).max(1);
    let want = |header: Header| if header.tag.wrapping_add(*wanted) % 3 == 0 { usize::from(*wanted) + 1 } else { 0 };
    let mut splitter = Splitter::new(1 << 20);
    let mut kept: Vec<u8> = Vec::new();
    let mut out: Vec<u8> = Vec::new();
    for piece in stream.chunks(chunk) {
        kept.extend_from_slice(piece);
        let mut at = 0;
        loop {
            match splitter.next(&kept[at..], want) {
                Ok(Piece::Run(run)) => {
                    assert!(!run.is_empty());
                    out.extend_from_slice(run);
                    at += run.len();
                }
                Ok(Piece::Message(header, bytes)) => {
                    assert_eq!(bytes.len(), header.len.min(want(header).max(HEADER_BYTES)));
                    out.extend_from_slice(bytes);
                    at += bytes.len();
                }
                Ok(Piece::More) => break,
                Err(_) => {
                    assert_eq!(out, stream[..out.len()]);
                    return;
                }
            }
        }
        kept.drain(..at);
        assert!(kept.len() <= usize::from(*wanted) + 1 + HEADER_BYTES, "no more is kept than was asked for");
    }
    out.extend_from_slice(&kept);
    assert_eq!(out, stream);
}

/// Bodies of clients' messages; what is written under the same name is what was read.
pub fn client_message(data: &[u8]) {
    if let Ok(parse) = frontend::Parse::read(data) {
        let mut out = Vec::new();
        parse.write_as(&mut out, parse.name);
        assert_eq!(&out[HEADER_BYTES..], data);
        assert!(matches!(Header::read(&out, MAX_MESSAGE), Ok(Some(header)) if header.len == out.len()));
    }
    if let Some(names) = frontend::BindNames::read(data) {
        let mut out = Vec::new();
        names.write_as(&mut out, data.len(), names.statement);
        out.extend_from_slice(&data[names.len..]);
        assert_eq!(&out[HEADER_BYTES..], data);
    }
    let _ = frontend::object(data);
    let _ = frontend::execute(data);
    let _ = frontend::query(data);
    let _ = frontend::sasl_initial(data);
}

/// Bodies of servers' messages.
pub fn server_message(data: &[u8]) {
    let _ = backend::ready(data);
    let _ = backend::Authentication::parse(data);
    let _ = backend::parameter_status(data);
    let _ = backend::backend_key(data);
    let _ = backend::command_tag(data);
    let _ = backend::first_column(data);
    if let Ok(report) = report::Report::parse(data) {
        assert!(report.message.len() < data.len());
    }
}

/// SCRAM: nobody gets in without the password, whatever is sent. The first byte cuts the rest into the client's two
/// messages.
pub fn scram(data: &[u8]) {
    let [cut, rest @ ..] = data else { return };
    let (first, last) = rest.split_at(usize::from(*cut).min(rest.len()));
    let verifier = Verifier::doomed(b"secret", "user");
    let bindings = [Binding::None, Binding::EndPoint(b"hash".to_vec())];
    for (binding, mechanism) in bindings.iter().zip([SCRAM_SHA_256, SCRAM_SHA_256_PLUS]) {
        if let Ok((server, reply)) = ServerFirst::answer(&verifier, binding, mechanism, first, "fresh") {
            assert!(reply.len() < first.len() + 128);
            assert!(
                !matches!(server.check(last), Ok(crate::scram::Outcome::Right { .. })),
                "let in without a password"
            );
        }
    }
    let Ok((keys, _)) = Keys::from_password(b"password", b"salt", 1) else { return };
    if let Ok((client, _)) = ClientFirst::new("fresh").answer(&keys, first) {
        assert!(client.check(last).is_err(), "a server without the verifier was believed");
    }
}

/// Stored verifiers; one that reads is written the same.
pub fn verifier(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(verifier) = Verifier::parse(text) {
        let stored = verifier.to_string_for_storage();
        assert!(Verifier::parse(&stored).is_ok_and(|again| again == verifier));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Bytes that look like messages often enough to get past the first check.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let message = (any::<u8>(), vec(prop_oneof![Just(0_u8), b'a'..=b'z', any::<u8>()], 0..40), 0..20_usize);
        let messages = vec(message, 0..12).prop_map(|messages| {
            let mut out = Vec::new();
            for (tag, body, lie) in messages {
                out.push(tag);
                let length = if lie == 0 { 1_usize << 21 } else { body.len() + 4 };
                out.extend_from_slice(&u32::try_from(length).unwrap().to_be_bytes());
                out.extend_from_slice(&body);
            }
            out
        });
        prop_oneof![
            vec(any::<u8>(), 0..200),
            messages.clone(),
            messages.prop_map(|mut bytes| {
                bytes.splice(0..0, [3, 9]);
                bytes
            })
        ]
    }

    fn scram_like() -> impl Strategy<Value = Vec<u8>> {
        (
            any::<u8>(),
            "(n|y|p=tls-server-end-point),(a=x)?,n=[a-z]*,r=[a-z]{0,4}(c=biws,r=[a-z]{0,4}fresh,p=[A-Za-z0-9+/]{43}=)?",
        )
            .prop_map(|(cut, text)| {
                let mut out = vec![cut];
                out.extend_from_slice(text.as_bytes());
                out
            })
    }

    proptest! {
        #[test]
        fn any_first_packet(data in nearly()) {
            super::first_packet(&data);
            let mut sized = u32::try_from(data.len() + 8).unwrap().to_be_bytes().to_vec();
            sized.extend_from_slice(&[0, 3, 0, 0]);
            sized.extend_from_slice(&data);
            super::first_packet(&sized);
        }

        #[test]
        fn any_stream_in_any_chunks(data in nearly()) {
            super::framing(&data);
        }

        #[test]
        fn any_body(data in nearly()) {
            super::client_message(&data);
            super::server_message(&data);
        }

        #[test]
        fn any_scram(data in prop_oneof![scram_like(), nearly()]) {
            super::scram(&data);
        }

        #[test]
        fn any_verifier(text in "SCRAM-SHA-256\\$[0-9]{1,5}:[A-Za-z0-9+/]{0,8}\\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=") {
            super::verifier(text.as_bytes());
        }
    }
}
