//! The names in a certificate by their kinds, as rules ask for them.

use crate::der::{self, IA5_STRING, Item, OBJECT_ID, PRINTABLE_STRING, Reader, SEQUENCE, SET, UTF8_STRING};

/// Kinds of alternative names (RFC 5280 §4.2.1.6).
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;

/// `CN`.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];

/// The names that a certificate is for. Alternative ones are visible ASCII: what is not is no name of its kind, and left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    /// Every `CN` of the subject.
    pub common: Vec<String>,
    /// Hosts.
    pub dns: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Mail addresses.
    pub emails: Vec<String>,
}

/// Those of a certificate. `None` for what is none.
pub fn names(certificate: &[u8]) -> Option<Names> {
    let certificate = der::certificate(certificate)?;
    let mut names = Names::default();
    let mut subject = Reader::new(certificate.subject);
    while let Some(Item { tag: SET, content, .. }) = subject.next() {
        let mut set = Reader::new(content);
        while let Some(attribute) = set.take(SEQUENCE) {
            names.common.extend(common_name(attribute));
        }
    }
    let alternative = certificate.alternative.and_then(|value| Reader::new(value).take(SEQUENCE));
    let mut alternative = Reader::new(alternative.unwrap_or_default());
    while let Some(Item { tag, content, .. }) = alternative.next() {
        let Some(text) = visible(content) else { continue };
        match tag {
            EMAIL => names.emails.push(text),
            DNS => names.dns.push(text),
            URI => names.uris.push(text),
            _ => {}
        }
    }
    Some(names)
}

fn common_name(attribute: &[u8]) -> Option<String> {
    let mut attribute = Reader::new(attribute);
    if attribute.take(OBJECT_ID)? != COMMON_NAME {
        return None;
    }
    let Item { tag, content, .. } = attribute.next()?;
    let is_text = [UTF8_STRING, PRINTABLE_STRING, IA5_STRING].contains(&tag);
    String::from_utf8(content.to_vec()).ok().filter(|_| is_text)
}

fn visible(text: &[u8]) -> Option<String> {
    let is_visible = !text.is_empty() && text.iter().all(u8::is_ascii_graphic);
    is_visible.then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn made(common: &[&str], alternative: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Shop");
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = alternative;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn names_are_found_by_their_kinds() {
        let alternative = vec![
            SanType::DnsName("a.example".try_into().unwrap()),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::URI("spiffe://shop/billing".try_into().unwrap()),
            SanType::Rfc822Name("ada@shop.example".try_into().unwrap()),
            SanType::DnsName("b.example".try_into().unwrap()),
            SanType::URI("x: \"1\", dns:c.example".try_into().unwrap()),
        ];
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let expected = Names {
            common: texts(&["Zoë"]),
            dns: texts(&["a.example", "b.example"]),
            uris: texts(&["spiffe://shop/billing"]),
            emails: texts(&["ada@shop.example"]),
        };
        assert_eq!(names(&made(&["Zoë"], alternative)), Some(expected));
        assert_eq!(names(&made(&[], Vec::new())), Some(Names::default()));
    }

    #[test]
    fn no_cut_or_changed_certificate_is_a_panic() {
        let whole = made(&["x"], vec![SanType::URI("spiffe://shop/x".try_into().unwrap())]);
        assert_eq!(names(b""), None);
        for index in 0..whole.len() {
            names(&whole[..index]);
            for value in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[index] = value;
                names(&changed);
            }
        }
    }
}
