//! The CA: an ECDSA P-256 key that signs host, member and server certificates.
//!
//! Invariants: the private key rests sealed, bound to its certificate by the pin in the sealing place; every certificate
//! has a random serial, begins up to a minute in the past and says in one URI what it is for. A crash has no
//! effect here: nothing is stored but by the caller.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, string::Ia5String,
};
use rustls::pki_types::DnsName;
use secrecy::{ExposeSecret, SecretString};
use windlass_core::{
    Error,
    id::{HostId, MemberId, ProxyId},
};
use windlass_kit::{
    random,
    tls::{Authorities, CertificateDer, Identity, Pin, host_uri, proxy_uri},
};

use super::request::RequestedKey;
use crate::secrets::Sealer;

const CA_LIFE: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// Subjects are `CN=<id>,OU=<unit>`: no host's name can look like one.
const MEMBER_UNIT: &str = "windlass-member";
const PROXY_UNIT: &str = "windlass-proxy";
/// Clocks differ; but a short-lived certificate must not be past half of its life when it is signed.
const LONGEST_BACKDATE: SignedDuration = SignedDuration::from_mins(1);

/// The CA as it rests in the metadata.
#[derive(Debug, Clone)]
pub struct StoredAuthority {
    /// The CA certificate, PEM.
    pub cert_pem: String,
    /// Its private key, sealed.
    pub key_sealed: Vec<u8>,
    /// Until when the CA certificate is valid.
    pub not_after: Timestamp,
}

/// How long certificates live, counted from the moment of signing.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// Of hosts. Renewed at half of it.
    pub host: SignedDuration,
    /// Of database servers.
    pub member: SignedDuration,
    /// Of the control plane's own listener. Renewed at half of it.
    pub server: SignedDuration,
}

impl Default for Validity {
    fn default() -> Self {
        Self {
            host: SignedDuration::from_hours(24),
            member: SignedDuration::from_hours(90 * 24),
            server: SignedDuration::from_hours(30 * 24),
        }
    }
}

/// A certificate that was just signed.
#[derive(Debug, Clone)]
pub struct SignedCert {
    /// PEM: the leaf, then the CA.
    pub chain_pem: String,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
}

/// The open CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert_pem: String,
    pin: Pin,
    validity: Validity,
}

impl Authority {
    /// A fresh CA, for an installation that has none.
    ///
    /// # Errors
    /// `INTERNAL` if the crypto library fails.
    pub fn create(sealer: &Sealer, now: Timestamp) -> Result<StoredAuthority, Error> {
        let not_after = now + CA_LIFE;
        let mut params = params(&format!("Windlass CA {}", hex::encode(random::bytes::<4>())), now, not_after)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        let certificate = params.self_signed(&key).map_err(crypto)?;
        let key_pem = SecretString::from(key.serialize_pem());
        let place = place(Pin::of(certificate.der()));
        Ok(StoredAuthority {
            cert_pem: certificate.pem(),
            key_sealed: sealer.seal(&place, key_pem.expose_secret().as_bytes()),
            not_after,
        })
    }

    /// Opens the stored CA.
    ///
    /// # Errors
    /// `INTERNAL` if the certificate cannot be read or the sealed key does not open.
    pub fn open(stored: &StoredAuthority, sealer: &Sealer, validity: Validity) -> Result<Self, Error> {
        let unreadable = |what: &str| Error::internal(format!("the stored CA {what}"));
        let (_, pem) = x509_parser::pem::parse_x509_pem(stored.cert_pem.as_bytes())
            .map_err(|_| unreadable("certificate is not PEM"))?;
        let pin = Pin::of(&pem.contents);
        let key = sealer.open(&place(pin), &stored.key_sealed)?;
        let key = std::str::from_utf8(key.expose_secret()).map_err(|_| unreadable("key is not PEM"))?;
        let key = KeyPair::from_pem(key).map_err(|_| unreadable("key is not PEM"))?;
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(pem.contents), key).map_err(crypto)?;
        Ok(Self { issuer, cert_pem: stored.cert_pem.clone(), pin, validity })
    }

    /// The CA certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The CA certificate's pin, as join tokens carry it.
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The CA as the accepting end wants it.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the certificate cannot be read, which [`Authority::open`] has ruled out.
    pub fn authorities(&self) -> Result<Authorities, Error> {
        Authorities::from_pem(&self.cert_pem)
    }

    /// Signs the client certificate of a host.
    ///
    /// # Errors
    /// `INTERNAL` if the crypto library fails.
    pub fn sign_host(&self, key: &RequestedKey, host: HostId, name: &str, now: Timestamp) -> Result<SignedCert, Error> {
        let mut params = params(name, now, now + self.validity.host)?;
        params.subject_alt_names = vec![SanType::URI(uri(host_uri(host))?)];
        // Agents are each other's servers too.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, key.public_key())
    }

    /// Signs the client certificate of a proxy. Databases know it by its subject.
    ///
    /// # Errors
    /// `INTERNAL` if the crypto library fails.
    pub fn sign_proxy(&self, key: &RequestedKey, proxy: ProxyId, now: Timestamp) -> Result<SignedCert, Error> {
        let mut params = params(&proxy.to_string(), now, now + self.validity.host)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, PROXY_UNIT);
        params.subject_alt_names = vec![SanType::URI(uri(proxy_uri(proxy))?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, key.public_key())
    }

    /// Signs the certificate that a proxy shows its clients. Each name is a DNS name, perhaps with a wildcard as its first
    /// label, or an IP address.
    ///
    /// # Errors
    /// `INVALID_FIELD` if a name is neither; `INTERNAL` if the crypto library fails.
    pub fn sign_proxy_server(&self, key: &RequestedKey, names: &[String], now: Timestamp) -> Result<SignedCert, Error> {
        let mut params = params("windlass proxy", now, now + self.validity.server)?;
        params.subject_alt_names = alternatives(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, key.public_key())
    }

    /// Signs the server certificate of a member. Clients may verify it for each of the names and addresses.
    ///
    /// # Errors
    /// `INVALID_FIELD` if a name is not a DNS name; `INTERNAL` if the crypto library fails.
    pub fn sign_member(
        &self,
        key: &RequestedKey,
        member: MemberId,
        names: &[String],
        addresses: &[IpAddr],
        now: Timestamp,
    ) -> Result<SignedCert, Error> {
        let mut params = params(&member.to_string(), now, now + self.validity.member)?;
        params.distinguished_name.push(DnType::OrganizationalUnitName, MEMBER_UNIT);
        params.subject_alt_names = vec![SanType::URI(uri(format!("windlass://member/{member}"))?)];
        for name in names {
            params.subject_alt_names.push(SanType::DnsName(dns_name(name)?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        // A replica shows it to its leader.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, key.public_key())
    }

    /// An identity for the control plane's own listener. Each name is a DNS name or an IP address.
    ///
    /// # Errors
    /// `INVALID_FIELD` if a name is neither; `INTERNAL` if the crypto library fails.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<Identity, Error> {
        let mut params = params("windlass control plane", now, now + self.validity.server)?;
        params.subject_alt_names = alternatives(names)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        let signed = self.sign(params, &key)?;
        Identity::from_pem(&signed.chain_pem, &key.serialize_pem().into())
    }

    fn sign(&self, mut params: CertificateParams, key: &impl PublicKeyData) -> Result<SignedCert, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let mut serial = random::bytes::<16>();
        // Positive and without leading zero, so that its DER and its text have one length.
        serial[0] = serial[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params.signed_by(key, &self.issuer).map_err(crypto)?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(crypto);
        Ok(SignedCert {
            chain_pem: format!("{}{}", certificate.pem(), self.cert_pem),
            serial: hex::encode(serial),
            not_before: time(params.not_before.unix_timestamp())?,
            not_after: time(params.not_after.unix_timestamp())?,
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.pin)
    }
}

fn params(common_name: &str, now: Timestamp, not_after: Timestamp) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let time = |timestamp: Timestamp| {
        let since = u64::try_from(timestamp.as_second())
            .map_err(|_| Error::internal("the clock is before 1970; set the time of this machine"))?;
        Ok::<_, Error>(rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(since))
    };
    params.not_before = time(now - LONGEST_BACKDATE.min(not_after.duration_since(now) / 4))?;
    params.not_after = time(not_after)?;
    Ok(params)
}

fn alternatives(names: &[String]) -> Result<Vec<SanType>, Error> {
    let alternative = |name: &String| match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => {
            dns_name(name.strip_prefix("*.").unwrap_or(name))?;
            uri(name.clone()).map(SanType::DnsName)
        }
    };
    names.iter().map(alternative).collect()
}

fn uri(text: String) -> Result<Ia5String, Error> {
    text.try_into().map_err(crypto)
}

fn dns_name(name: &str) -> Result<Ia5String, Error> {
    let wrong = || Error::invalid("names", format!("{name:?} is neither a DNS name (punycode) nor an IP address"));
    DnsName::try_from(name).map_err(|_| wrong())?;
    name.try_into().map_err(|_| wrong())
}

fn place(pin: Pin) -> String {
    format!("certificate_authority/{pin}/key_sealed")
}

fn crypto(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal("the crypto library failed").with_source(error)
}
