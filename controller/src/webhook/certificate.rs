//! The certificate of the webhook. In: the name that the API server calls, the time. Out: a key, a
//! certificate, the authority that signed it, and when all of it has to be made anew.
//!
//! The authority signs one certificate and its key is then forgotten: nobody can make another one.
//! At a rotation the bundle keeps the authority before, so that replicas which still serve the old
//! certificate stay trusted.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_runtime::tls::{Pem, TlsError, server_config};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// How long a certificate is good for.
const DAYS: i64 = 365;
/// How long before its end it is made anew.
const ROTATE_DAYS_BEFORE: i64 = 60;
/// Annotation of the Secret: the DNS name in the certificate.
const FOR: &str = "mqtt.akri.sh/certificate-for";
/// Annotation of the Secret: the last day of the certificate.
const UNTIL: &str = "mqtt.akri.sh/certificate-until";
/// The authorities that the API server is to trust.
const BUNDLE: &str = "ca.crt";
/// The certificate, as in Secrets of the type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
/// Its key.
const KEY: &str = "tls.key";
const END: &str = "-----END CERTIFICATE-----";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The dates cannot be calculated.
    #[error("cannot make a certificate for this date: {0}")]
    Date(#[from] jiff::Error),
    /// The Secret does not hold what it should; its content is not repeated.
    #[error("the Secret has no good {0}")]
    Damaged(&'static str),
}

/// A key, its certificate and what the API server is to trust. It is a secret: it is not `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Material {
    dns_name: String,
    until: Date,
    bundle: String,
    certificate: String,
    key: String,
}

impl Material {
    /// Makes a new one for `dns_name`. `before` is what the Secret held until now.
    ///
    /// # Errors
    /// The clock is out of the range of dates, or no random numbers can be had.
    pub fn make(
        dns_name: &str,
        now: Timestamp,
        before: Option<&Self>,
    ) -> Result<Self, CertificateError> {
        let today = now.to_zoned(TimeZone::UTC).date();
        // Clocks differ.
        let from = today.checked_sub(Span::new().days(1))?;
        let until = today.checked_add(Span::new().days(DAYS))?;

        let mut authority = parameters("akri-mqtt webhook authority", from, until);
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let mut leaf = parameters("akri-mqtt webhook", from, until);
        leaf.subject_alt_names =
            CertificateParams::new(vec![dns_name.to_owned()])?.subject_alt_names;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &authority)?;

        let mut bundle = authority.pem();
        if let Some(before) = before {
            bundle.push_str(before.newest_authority());
        }
        Ok(Self {
            dns_name: dns_name.to_owned(),
            until,
            bundle,
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// Reads what [`Material::fill`] has written.
    ///
    /// # Errors
    /// Something is missing or damaged. A Secret that a chart has made empty is damaged in this
    /// sense.
    pub fn read(secret: &Secret) -> Result<Self, CertificateError> {
        let annotation = |name: &'static str| {
            let annotations = secret.metadata.annotations.as_ref();
            annotations
                .and_then(|annotations| annotations.get(name).cloned())
                .ok_or(CertificateError::Damaged(name))
        };
        let text = |name: &'static str| {
            let bytes = secret.data.as_ref().and_then(|data| data.get(name));
            bytes
                .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
                .ok_or(CertificateError::Damaged(name))
        };
        let material = Self {
            dns_name: annotation(FOR)?,
            until: annotation(UNTIL)?
                .parse()
                .map_err(|_| CertificateError::Damaged(UNTIL))?,
            bundle: text(BUNDLE)?,
            certificate: text(CERTIFICATE)?,
            key: text(KEY)?,
        };
        certificates(&material.bundle).ok_or(CertificateError::Damaged(BUNDLE))?;
        material.server_config()?;
        Ok(material)
    }

    /// Writes it into a Secret; what else is there stays.
    pub fn fill(&self, secret: &mut Secret) {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(FOR.to_owned(), self.dns_name.clone());
        annotations.insert(UNTIL.to_owned(), self.until.to_string());
        let data: &mut BTreeMap<_, _> = secret.data.get_or_insert_default();
        for (name, text) in [
            (BUNDLE, &self.bundle),
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
        ] {
            data.insert(name.to_owned(), ByteString(text.clone().into_bytes()));
        }
    }

    /// Whether it is for this name and not close to its end.
    #[must_use]
    pub fn is_good(&self, dns_name: &str, now: Timestamp) -> bool {
        let today = now.to_zoned(TimeZone::UTC).date();
        let rotate = self.until.checked_sub(Span::new().days(ROTATE_DAYS_BEFORE));
        self.dns_name == dns_name && rotate.is_ok_and(|rotate| today < rotate)
    }

    /// What the API server is to trust, as PEM.
    #[must_use]
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// The last day of the certificate.
    #[must_use]
    pub fn until(&self) -> Date {
        self.until
    }

    /// What a TLS server needs. HTTP/2 is offered first.
    ///
    /// # Errors
    /// Key and certificate are damaged or do not belong together.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let pem = Pem {
            certificate: self.certificate.as_bytes(),
            key: self.key.as_bytes(),
            client_authorities: None,
        };
        server_config(pem, &[b"h2", b"http/1.1"]).map_err(|error| {
            CertificateError::Damaged(match error {
                TlsError::Certificate => CERTIFICATE,
                TlsError::Key
                | TlsError::Pair(_)
                | TlsError::ClientAuthority
                | TlsError::ServerAuthority => KEY,
            })
        })
    }

    /// The first certificate of the bundle.
    fn newest_authority(&self) -> &str {
        match self.bundle.split_inclusive(END).next() {
            Some(first) if first.ends_with(END) => first,
            _ => "",
        }
    }
}

fn parameters(name: &str, from: Date, until: Date) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    // Months and days of a calendar are never negative.
    let part = |number: i8| number.unsigned_abs();
    let midnight = |date: Date| {
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    parameters.not_before = midnight(from);
    parameters.not_after = midnight(until);
    parameters
}

/// At least one certificate, all of them readable.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    read.ok().filter(|certificates| !certificates.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "akri-mqtt-webhook.akri-mqtt.svc";

    fn day(text: &str) -> Timestamp {
        format!("{text}T12:00:00Z").parse().unwrap()
    }

    fn secret(material: &Material) -> Secret {
        let mut secret = Secret::default();
        material.fill(&mut secret);
        secret
    }

    #[test]
    fn a_secret_gives_back_what_it_was_given() {
        let material = Material::make(NAME, day("2026-03-01"), None).unwrap();
        let read = Material::read(&secret(&material)).unwrap();
        assert!(read == material);
        assert_eq!(material.until().to_string(), "2027-03-01");
        assert_eq!(certificates(material.bundle()).unwrap().len(), 1);
    }

    #[test]
    fn it_is_made_anew_two_months_before_its_end_and_for_another_name() {
        let material = Material::make(NAME, day("2026-03-01"), None).unwrap();
        assert!(material.is_good(NAME, day("2026-12-30")));
        assert!(!material.is_good(NAME, day("2026-12-31")));
        assert!(!material.is_good("other.akri-mqtt.svc", day("2026-03-02")));
    }

    #[test]
    fn the_authority_before_stays_trusted_for_one_rotation() {
        let first = Material::make(NAME, day("2026-03-01"), None).unwrap();
        let second = Material::make(NAME, day("2026-12-31"), Some(&first)).unwrap();
        let third = Material::make(NAME, day("2027-10-31"), Some(&second)).unwrap();
        let authorities = |material: &Material| certificates(material.bundle()).unwrap();
        assert_eq!(authorities(&second).len(), 2);
        assert_eq!(authorities(&second)[1], authorities(&first)[0]);
        assert_eq!(authorities(&third).len(), 2);
        assert_eq!(authorities(&third)[1], authorities(&second)[0]);
    }

    #[test]
    fn an_empty_or_damaged_secret_is_refused_without_repeating_it() {
        assert!(Material::read(&Secret::default()).is_err());
        let material = Material::make(NAME, day("2026-03-01"), None).unwrap();
        let other = Material::make(NAME, day("2026-03-01"), None).unwrap();
        for (name, value) in [
            (KEY, "x".to_owned()),
            (KEY, other.key.clone()),
            (CERTIFICATE, String::new()),
            (BUNDLE, material.key.clone()),
        ] {
            let mut secret = secret(&material);
            let data = secret.data.as_mut().unwrap();
            data.insert(name.to_owned(), ByteString(value.into_bytes()));
            let error = Material::read(&secret).err().unwrap().to_string();
            assert_eq!(error, format!("the Secret has no good {name}"));
        }
    }
}
