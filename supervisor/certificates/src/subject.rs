//! A certificate's name as text (RFC 4514): `CN=alice,O=Shop`.

use crate::der::{self, IA5_STRING, Item, OBJECT_ID, PRINTABLE_STRING, Reader, SEQUENCE, SET, UTF8_STRING};

/// Attributes that have a name (RFC 4514 §3), by the content of their object identifiers.
const NAMED: [(&[u8], &str); 9] = [
    (&[0x55, 4, 3], "CN"),
    (&[0x55, 4, 6], "C"),
    (&[0x55, 4, 7], "L"),
    (&[0x55, 4, 8], "ST"),
    (&[0x55, 4, 9], "STREET"),
    (&[0x55, 4, 10], "O"),
    (&[0x55, 4, 11], "OU"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1], "UID"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "DC"),
];

/// Whose certificate it is, in visible ASCII whatever is in it. `None` for what is none; empty where the name is.
pub fn subject(certificate: &[u8]) -> Option<String> {
    let mut names = Reader::new(der::certificate(certificate)?.subject);
    let mut parts = Vec::new();
    while let Some(Item { tag: SET, content, .. }) = names.next() {
        let mut set = Reader::new(content);
        let mut part = String::new();
        while let Some(content) = set.take(SEQUENCE) {
            let mut attribute = Reader::new(content);
            let (id, value) = (attribute.take(OBJECT_ID)?, attribute.next()?);
            if !part.is_empty() {
                part.push('+');
            }
            write_attribute(id, value, &mut part);
        }
        parts.push(part);
    }
    // The last part is the closest (§2.1).
    parts.reverse();
    Some(parts.join(","))
}

fn write_attribute(id: &[u8], value: Item<'_>, out: &mut String) {
    let name = NAMED.iter().find(|(known, _)| *known == id).map(|(_, name)| *name);
    match name {
        Some(name) => out.push_str(name),
        None => write_object_id(id, out),
    }
    out.push('=');
    match value.tag {
        UTF8_STRING | PRINTABLE_STRING | IA5_STRING if name.is_some() => escape(value.content, out),
        _ => {
            out.push('#');
            value.whole.iter().for_each(|byte| *out += &format!("{byte:02x}"));
        }
    }
}

/// `1.2.840`.
fn write_object_id(id: &[u8], out: &mut String) {
    let mut number: u64 = 0;
    let mut is_first = true;
    for byte in id {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            continue;
        }
        *out += &if std::mem::take(&mut is_first) {
            let root = (number / 40).min(2);
            format!("{root}.{}", number - root * 40)
        } else {
            format!(".{number}")
        };
        number = 0;
    }
}

/// §2.4. What is not visible ASCII is written by its bytes, so that a name is safe in a field of HTTP.
fn escape(text: &[u8], out: &mut String) {
    for (index, byte) in text.iter().copied().enumerate() {
        let is_outer = index == 0 || index + 1 == text.len();
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' ' if is_outer => out.push_str("\\ "),
            b'#' if index == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => *out += &format!("\\{byte:02X}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn of(names: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1], vec![5, 0])];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        subject(certificate.der()).unwrap()
    }

    #[test]
    fn a_name_is_written_as_rfc_4514_has_it() {
        let common = |text| (DnType::CommonName, text);
        assert_eq!(of(&[]), "");
        assert_eq!(
            of(&[(DnType::CountryName, "DE"), (DnType::OrganizationName, "Shop"), common("alice")]),
            "CN=alice,O=Shop,C=DE"
        );
        assert_eq!(of(&[common("a,b+c\"\\")]), r#"CN=a\,b\+c\"\\"#);
        assert_eq!(of(&[common(" #x ")]), r"CN=\ #x\ ");
        assert_eq!(of(&[common("#x")]), r"CN=\#x");
        assert_eq!(of(&[common("é\r\nEvil: 1")]), r"CN=\C3\A9\0D\0AEvil: 1");
        assert_eq!(
            of(&[(DnType::CustomDnType(vec![1, 2, 840, 113549, 1]), "x")]),
            "1.2.840.113549.1=#0c0178"
        );
    }

    #[test]
    fn what_is_no_certificate_has_no_name() {
        for bytes in [&b""[..], b"x", &[0x30, 0x84, 255, 255, 255, 255]] {
            assert_eq!(subject(bytes), None);
        }
    }

    #[test]
    fn no_cut_or_changed_certificate_is_a_panic() {
        let key = KeyPair::generate().unwrap();
        let whole = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&key).unwrap();
        let whole = whole.der().to_vec();
        for index in 0..whole.len() {
            subject(&whole[..index]);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[index] = value;
                subject(&changed);
            }
        }
    }
}
