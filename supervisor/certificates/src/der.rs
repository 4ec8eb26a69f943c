//! As much of DER (X.690) as it takes to find in a certificate (RFC 5280 §4.1) until when it holds and whose it is. A library for the rest of
//! X.509 would be larger than everything else here, and what matters for trust is decided by `webpki`.

/// Tags of X.690 §8 and RFC 5280.
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const OBJECT_ID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
const BOOLEAN: u8 = 0x01;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// What is left to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// One value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With its tag and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// The next value. `None` at the end, and for what is no DER.
    pub(crate) fn next(&mut self) -> Option<Item<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Item { tag, content, whole })
    }

    /// The content of the next value, which has to be of this kind.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|item| item.tag == tag).map(|item| item.content)
    }
}

/// What is looked for in a certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Certificate<'a> {
    /// Seconds since the Unix epoch: from when, and until when, it holds.
    pub(crate) validity: (i64, i64),
    /// The content of the name that it is for.
    pub(crate) subject: &'a [u8],
    /// Whether it may vouch for others, as it says itself: those of the first version could not say.
    pub(crate) vouches: bool,
    /// Its other names (§4.2.1.6), with their tag and length.
    pub(crate) alternative: Option<&'a [u8]>,
}

/// Reads a certificate.
pub(crate) fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let mut certificate = Reader::new(Reader::new(der).take(SEQUENCE)?);
    let mut to_be_signed = Reader::new(certificate.take(SEQUENCE)?);
    let first = to_be_signed.next()?;
    if first.tag == VERSION {
        // Then it is the serial number that comes next.
        to_be_signed.next()?;
    }
    let (_algorithm, _issuer) = (to_be_signed.take(SEQUENCE)?, to_be_signed.take(SEQUENCE)?);
    let mut validity = Reader::new(to_be_signed.take(SEQUENCE)?);
    let validity = (time(validity.next()?)?, time(validity.next()?)?);
    let subject = to_be_signed.take(SEQUENCE)?;
    let vouches = first.tag != VERSION || is_authority(to_be_signed).unwrap_or(false);
    let alternative = extension(to_be_signed, SUBJECT_ALT_NAME);
    Some(Certificate { validity, subject, vouches, alternative })
}

/// Extensions, by the content of their object identifiers (§4.2.1.6, §4.2.1.9).
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

fn is_authority(after_subject: Reader<'_>) -> Option<bool> {
    let value = extension(after_subject, BASIC_CONSTRAINTS)?;
    let mut constraints = Reader::new(Reader::new(value).take(SEQUENCE)?);
    Some(constraints.take(BOOLEAN)? == [0xff])
}

/// The value of one of the extensions behind a subject.
fn extension<'a>(mut after_subject: Reader<'a>, id: &[u8]) -> Option<&'a [u8]> {
    const EXTENSIONS: u8 = 0xa3;
    let all = loop {
        let item = after_subject.next()?;
        if item.tag == EXTENSIONS {
            break item.content;
        }
    };
    let mut all = Reader::new(Reader::new(all).take(SEQUENCE)?);
    loop {
        let mut extension = Reader::new(all.take(SEQUENCE)?);
        if extension.take(OBJECT_ID)? != id {
            continue;
        }
        let first = extension.next()?;
        let value = if first.tag == BOOLEAN { extension.next()? } else { first };
        return Some(value.content);
    }
}

/// A time of RFC 5280 §4.1.2.5, which always ends with `Z`.
fn time(item: Item<'_>) -> Option<i64> {
    let digits = std::str::from_utf8(item.content).ok()?.strip_suffix('Z')?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let (year, rest) = match (item.tag, digits.len()) {
        _ if !is_plain => return None,
        (UTC_TIME, 12) => {
            let year: i64 = digits[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let part = |index: usize| rest[2 * index..2 * index + 2].parse::<i64>().ok();
    let [month, day, hour, minute, second] = [part(0)?, part(1)?, part(2)?, part(3)?, part(4)?];
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day);
    is_date.then(|| days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the calendar of today. The year begins in March here, so that its odd day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let check = |tag, text: &str, expected: Option<i64>| {
            let item = Item { tag, content: text.as_bytes(), whole: &[] };
            assert_eq!(time(item), expected, "{text}");
        };
        check(UTC_TIME, "700101000000Z", Some(0));
        check(UTC_TIME, "000229120000Z", Some(951_825_600));
        check(UTC_TIME, "491231235959Z", Some(2_524_607_999));
        check(GENERALIZED_TIME, "20500101000000Z", Some(2_524_608_000));
        check(GENERALIZED_TIME, "99991231235959Z", Some(253_402_300_799));
        for wrong in
            ["", "Z", "700101000000", "7001010000Z", "701301000000Z", "70010100000éZ", "+0010100000Z"]
        {
            check(UTC_TIME, wrong, None);
        }
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_nothing() {
        let text = [SEQUENCE, 3, 1, 1, 5];
        assert_eq!(Reader::new(&text).take(SEQUENCE), Some(&[1, 1, 5][..]));
        for wrong in [&text[..4], &[SEQUENCE], &[SEQUENCE, 0x80], &[SEQUENCE, 0x84, 255, 255, 255, 255, 0]] {
            assert!(Reader::new(wrong).next().is_none(), "{wrong:?}");
        }
        assert!(certificate(&text).is_none());
    }
}
