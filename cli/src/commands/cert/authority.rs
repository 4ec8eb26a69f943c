//! An authority for certificates of development, which this user alone has: made once, and from then on the one that browsers are told of.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use watt_certificates::Identity;

/// How long the authority is good for. Whoever has told browsers of it does not want to do so again soon.
const AUTHORITY_DAYS: i64 = 3650;

/// How long a certificate is good for. Apple's clients take none that is good for longer, of whatever authority.
const CERTIFICATE_DAYS: i64 = 825;

/// Why there is no authority, or no certificate of it.
#[derive(Debug)]
pub enum Trouble {
    /// A file or folder cannot be made or read.
    File { what: &'static str, path: PathBuf, source: io::Error },
    /// The authority's files cannot be used, in words that follow the path.
    Unusable { path: PathBuf, why: String },
    /// What a certificate is to be for is none.
    Name { name: String, why: String },
}

/// The authority.
pub struct Authority {
    /// The file of its certificate.
    pub certificate: PathBuf,
    /// Whether it was made just now.
    pub is_new: bool,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate of it, and its key, as PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
    /// The last day on which it is good.
    pub until: Date,
}

impl Authority {
    /// The one that is in a folder, which is made with it when there is none.
    pub fn open(folder: &Path) -> Result<Authority, Trouble> {
        let path = folder.join("ca.key");
        let certificate = folder.join("ca.pem");
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|source| Trouble::File {
            what: "make the folder",
            path: folder.to_path_buf(),
            source,
        })?;
        let (key, is_new) = key(&path)?;
        let params = params(&key);
        if is_new || !certificate.exists() {
            let pem = params.self_signed(&key).map_err(|error| unusable(&path, &error))?.pem();
            write(&certificate, &pem, 0o644, true)?;
        }
        let found = fs::read_to_string(&certificate).map_err(|source| Trouble::File {
            what: "read",
            path: certificate.clone(),
            source,
        })?;
        check(&certificate, &found, &key)?;
        Ok(Authority { certificate, is_new, issuer: Issuer::new(params, key) })
    }

    /// A certificate for these hosts and addresses.
    pub fn issue(&self, names: &[String]) -> Result<Issued, Trouble> {
        names.iter().try_for_each(|name| check_name(name))?;
        let bad = |error: rcgen::Error| Trouble::Name { name: names.join(" "), why: error.to_string() };
        let mut params = CertificateParams::new(names).map_err(bad)?;
        let until = set_validity(&mut params, CERTIFICATE_DAYS);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "watt development certificate");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(bad)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(bad)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem(), until })
    }
}

/// The authority's key: the one that is there, or a new one, and whether it is. Of two that are made at a time one is kept.
fn key(path: &Path) -> Result<(KeyPair, bool), Trouble> {
    let mut is_new = false;
    if !path.exists() {
        let made = KeyPair::generate().map_err(|error| unusable(path, &error))?;
        is_new = match write(path, &made.serialize_pem(), 0o600, false) {
            Err(Trouble::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => false,
            written => written.map(|()| true)?,
        };
    }
    let pem = fs::read_to_string(path).map_err(|source| Trouble::File {
        what: "read",
        path: path.to_path_buf(),
        source,
    })?;
    let key = KeyPair::from_pem(&pem).map_err(|error| unusable(path, &error))?;
    Ok((key, is_new))
}

fn unusable(path: &Path, error: &rcgen::Error) -> Trouble {
    Trouble::Unusable { path: path.to_path_buf(), why: format!("cannot be used: {error}") }
}

/// What the authority's certificate says. Its name follows from its key, so that nothing else has to be remembered, and so that those of two
/// machines are told from each other.
fn params(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_validity(&mut params, AUTHORITY_DAYS);
    // It vouches for no other authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let id: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "watt development authority");
    params.distinguished_name.push(DnType::CommonName, format!("watt development authority {id}"));
    params
}

/// Whether the certificate that is there is the key's, and good today.
fn check(path: &Path, pem: &str, key: &KeyPair) -> Result<(), Trouble> {
    let unusable = |why: String| Trouble::Unusable { path: path.to_path_buf(), why };
    let identity = Identity::read(pem, &key.serialize_pem()).map_err(|fault| unusable(fault.to_string()))?;
    match identity.validity().1 > Timestamp::now().as_second() {
        true => Ok(()),
        false => Err(unusable("has expired".to_owned())),
    }
}

/// Good from yesterday on, since clocks differ, for so many days. Returns the last one.
fn set_validity(params: &mut CertificateParams, days: i64) -> Date {
    let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
    let shifted = |days: i64| today.checked_add(Span::new().days(days)).unwrap_or(today);
    let (from, until) = (shifted(-1), shifted(days - 1));
    let at = |date: Date| {
        let [month, day] = [date.month(), date.day()].map(i8::unsigned_abs);
        date_time_ymd(date.year().into(), month, day)
    };
    (params.not_before, params.not_after) = (at(from), at(until));
    until
}

/// A host, with `*` for its first part or not, or an address.
fn check_name(name: &str) -> Result<(), Trouble> {
    let why = |why: &str| Err(Trouble::Name { name: name.to_owned(), why: why.to_owned() });
    if name.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_part)
    };
    match host.len() <= 253 && host.split('.').all(is_label) {
        true => Ok(()),
        false if name.contains("://") => why("it is a URL; write the host alone"),
        false if name.contains(':') => why("write the host without a port"),
        false => why("a host has letters in lower case, digits and `-`, and `*` for the first part alone"),
    }
}

/// Writes a file as a whole or not at all, with its mode from the beginning.
pub fn write(path: &Path, text: &str, mode: u32, replaces: bool) -> Result<(), Trouble> {
    let trouble = |source| Trouble::File { what: "write", path: path.to_path_buf(), source };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(name);
    let put = || -> io::Result<()> {
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // A link is refused where a file is, and a rename is not.
        if replaces { fs::rename(&new, path) } else { fs::hard_link(&new, path) }
    };
    let written = put().map_err(trouble);
    if written.is_err() || !replaces {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn there_is_one_authority_and_its_certificates_are_for_what_was_asked() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca");
        let first = Authority::open(&ca).unwrap();
        let text = fs::read_to_string(&first.certificate).unwrap();
        let again = Authority::open(&ca).unwrap();
        assert!(first.is_new && !again.is_new);
        assert_eq!(fs::read_to_string(&again.certificate).unwrap(), text);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&ca), mode(&ca.join("ca.key")), mode(&ca.join("ca.pem"))), (0o700, 0o600, 0o644));
        let names = ["shop.test", "*.shop.test", "127.0.0.1", "::1"].map(str::to_owned);
        let issued = again.issue(&names).unwrap();
        let identity = Identity::read(&issued.certificate, &issued.key).unwrap();
        assert_eq!(identity.names(), ["shop.test", "*.shop.test"]);
        let days = (identity.validity().1 - Timestamp::now().as_second()) / 86_400;
        assert!((822..=825).contains(&days), "{days}");
        assert_eq!(fs::read_dir(&ca).unwrap().count(), 2, "nothing else is left there");
        // Its certificate is lost, and made once more from the key.
        fs::remove_file(&again.certificate).unwrap();
        assert!(!Authority::open(&ca).unwrap().is_new);
        // Somebody else's.
        let other = Authority::open(&folder.path().join("other")).unwrap();
        fs::copy(&other.certificate, &again.certificate).unwrap();
        assert!(matches!(Authority::open(&ca), Err(Trouble::Unusable { .. })));
    }

    #[test]
    fn names_are_hosts_and_addresses() {
        for good in ["localhost", "shop.test", "*.shop.test", "a-b.c1", "192.0.2.1", "2001:db8::1"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in
            ["", "Shop.test", "a..b", "*", "a.*.b", "shop_1", "https://shop.test", "shop.test:443", "a b"]
        {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
