//! Who a process is, and how it recognises the other end: a self-signed certificate with its key, and a pin.
//!
//! There is no authority, no name and no date in this scheme. The certificate is only the envelope TLS asks for
//! around a public key; what counts is whether its bytes are the expected ones.

use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

/// Why a key or certificate could not be made, read or used.
///
/// Retrying helps in none of the cases.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key pair or its certificate could not be made.
    #[error("make a key pair")]
    Generate(#[source] rcgen::Error),
    /// The system gave no random bytes.
    #[error("read random bytes from the system")]
    Random,
    /// A text is not the hexadecimal form of what it should be.
    #[error("read the {0}: not the expected hexadecimal digits")]
    Text(&'static str),
    /// The TLS library does not accept the key with its certificate.
    #[error("use the key with its certificate")]
    Unusable(#[source] rustls::Error),
    /// The TLS settings lack a cipher that QUIC needs.
    #[error("use the TLS settings for QUIC")]
    Suite(#[source] quinn::crypto::rustls::NoInitialCipherSuite),
}

/// An Ed25519 key pair with its self-signed certificate: what a process proves itself with.
///
/// `Debug` shows the pin and never the key.
#[derive(Clone)]
pub struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
    pin: Pin,
}

/// An [`Identity`] as two strings of hexadecimal digits, the form it has in files. Contains the secret key.
#[derive(Clone, Serialize, Deserialize)]
pub struct IdentityText {
    /// The certificate, DER.
    pub certificate: String,
    /// The secret key, PKCS#8 DER.
    pub key: String,
}

impl Identity {
    /// Makes a new key pair and its certificate.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(KeyError::Generate)?;
        // rcgen's default dates reach from 1975 to 4096; nobody checks them.
        let certificate = rcgen::CertificateParams::new(["cw".to_owned()])
            .and_then(|params| params.self_signed(&key))
            .map_err(KeyError::Generate)?;
        Self::from_der(certificate.der().to_vec(), key.serialize_der())
    }

    /// Reads back what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// When a part is not hexadecimal, is no certificate or key, or the two do not belong together.
    pub fn from_text(text: &IdentityText) -> Result<Self, KeyError> {
        let certificate = decode_hex(&text.certificate).ok_or(KeyError::Text("certificate"))?;
        let key = decode_hex(&text.key).ok_or(KeyError::Text("secret key"))?;
        Self::from_der(certificate, key)
    }

    fn from_der(certificate: Vec<u8>, key: Vec<u8>) -> Result<Self, KeyError> {
        let pin = Pin::of(&certificate);
        let identity = Self { certificate, key, pin };
        super::tls::check(&identity)?;
        Ok(identity)
    }

    /// The form for files: certificate and secret key in hexadecimal.
    pub fn to_text(&self) -> IdentityText {
        IdentityText { certificate: encode_hex(&self.certificate), key: encode_hex(&self.key) }
    }

    /// What a peer must hold to recognise this identity.
    pub fn certificate(&self) -> &Pin {
        &self.pin
    }

    pub(super) fn certificate_der(&self) -> &[u8] {
        &self.certificate
    }

    pub(super) fn key_der(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.pin).finish_non_exhaustive()
    }
}

/// The one certificate a peer is accepted by: the BLAKE3 hash of its exact bytes.
///
/// The hash stands for the bytes (a second certificate with the same hash cannot be found), has one length, and
/// its comparison takes the same time wherever two differ. `Display` is its first 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(blake3::Hash);

impl Pin {
    /// The pin of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(blake3::hash(certificate))
    }

    /// All 64 hexadecimal digits, the form for files.
    pub fn to_text(&self) -> String {
        self.0.to_hex().to_string()
    }

    /// Reads back what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// When the text is not 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| KeyError::Text("pinned certificate"))?;
        Ok(Self(hash))
    }

    /// Whether a presented certificate is the pinned one. Looks at its bytes only and parses nothing.
    pub(super) fn matches(&self, presented: &CertificateDer<'_>) -> bool {
        *self == Self::of(presented)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_hex()[..16])
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// Fresh random bytes from the system.
///
/// # Errors
/// [`KeyError::Random`] when there are none, as in a sandbox without `getrandom`.
pub fn random<const N: usize>() -> Result<[u8; N], KeyError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits, two a byte.
pub fn encode_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).expect("a nibble is below 16"));
        }
    }
    text
}

/// The bytes behind hexadecimal digits of either case; `None` for an odd number of them or any other character.
pub fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_survives_its_text_form() {
        let identity = Identity::generate().unwrap();
        let again = Identity::from_text(&identity.to_text()).unwrap();
        assert_eq!(again.certificate(), identity.certificate());
        assert_eq!(again.key, identity.key);
    }

    #[test]
    fn two_identities_differ() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        assert_ne!(one.certificate(), two.certificate());
    }

    #[test]
    fn debug_keeps_the_key_to_itself() {
        let identity = Identity::generate().unwrap();
        let shown = format!("{identity:?}");
        assert!(shown.contains(&identity.certificate().to_string()));
        assert!(!shown.contains(&encode_hex(&identity.key)[..16]));
        assert!(!shown.contains(&format!("{:?}", &identity.key[..4])));
    }

    #[test]
    fn key_of_another_certificate_is_refused() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let mixed = IdentityText { key: two.to_text().key, ..one.to_text() };
        assert!(matches!(Identity::from_text(&mixed), Err(KeyError::Unusable(_))));
    }

    #[test]
    fn garbage_text_is_refused() {
        let good = Identity::generate().unwrap().to_text();
        let odd = IdentityText { key: "abc".into(), ..good.clone() };
        assert!(matches!(Identity::from_text(&odd), Err(KeyError::Text("secret key"))));
        let letters = IdentityText { certificate: "zz".into(), ..good.clone() };
        assert!(matches!(Identity::from_text(&letters), Err(KeyError::Text("certificate"))));
        let short = IdentityText { key: "00ff".into(), ..good };
        assert!(matches!(Identity::from_text(&short), Err(KeyError::Unusable(_))));
        assert!(Pin::from_text("0123").is_err());
    }

    #[test]
    fn pin_shows_16_digits_and_keeps_64() {
        let pin = Pin::of(b"certificate");
        assert_eq!(pin.to_string().len(), 16);
        assert!(pin.to_text().starts_with(&pin.to_string()));
        assert_eq!(Pin::from_text(&pin.to_text()).unwrap(), pin);
    }

    #[test]
    fn hex_both_ways() {
        assert_eq!(encode_hex(&[0, 1, 0xfe, 0xff]), "0001feff");
        assert_eq!(decode_hex("0001FEff"), Some(vec![0, 1, 0xfe, 0xff]));
        assert_eq!(decode_hex("0é"), None);
        assert_eq!(decode_hex("+1"), None);
    }
}
