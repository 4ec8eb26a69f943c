//! What files are, by the ends of their names.

/// A Content-Type, and whether a file of it gets smaller by compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) is_compressible: bool,
}

/// By the end of a file's name, in any case. Nobody guesses by what is in it: a client that is told `nosniff` believes this.
pub(super) fn kind(path: &[u8]) -> Kind {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let end = match memchr::memrchr(b'.', name) {
        Some(dot) if name.len() - dot <= 12 => name[dot + 1..].to_ascii_lowercase(),
        Some(_) | None => Vec::new(),
    };
    let name = match &end[..] {
        b"html" | b"htm" => "text/html; charset=utf-8",
        b"css" => "text/css; charset=utf-8",
        b"js" | b"mjs" | b"cjs" => "text/javascript; charset=utf-8",
        b"json" | b"map" => "application/json",
        b"jsonld" => "application/ld+json",
        b"webmanifest" => "application/manifest+json",
        b"txt" | b"text" | b"log" | b"conf" => "text/plain; charset=utf-8",
        b"md" => "text/markdown; charset=utf-8",
        b"csv" => "text/csv; charset=utf-8",
        b"ics" => "text/calendar; charset=utf-8",
        b"vtt" => "text/vtt; charset=utf-8",
        b"xml" | b"xsl" => "application/xml",
        b"rss" => "application/rss+xml",
        b"atom" => "application/atom+xml",
        b"xhtml" => "application/xhtml+xml",
        b"yaml" | b"yml" => "application/yaml",
        b"toml" => "application/toml",
        b"wasm" => "application/wasm",
        b"svg" => "image/svg+xml",
        b"ico" => "image/x-icon",
        b"bmp" => "image/bmp",
        b"ttf" => "font/ttf",
        b"otf" => "font/otf",
        b"eot" => "application/vnd.ms-fontobject",
        b"woff" => return packed("font/woff"),
        b"woff2" => return packed("font/woff2"),
        b"png" => return packed("image/png"),
        b"apng" => return packed("image/apng"),
        b"jpg" | b"jpeg" => return packed("image/jpeg"),
        b"gif" => return packed("image/gif"),
        b"webp" => return packed("image/webp"),
        b"avif" => return packed("image/avif"),
        b"jxl" => return packed("image/jxl"),
        b"tif" | b"tiff" => return packed("image/tiff"),
        b"mp3" => return packed("audio/mpeg"),
        b"m4a" => return packed("audio/mp4"),
        b"aac" => return packed("audio/aac"),
        b"ogg" | b"oga" | b"opus" => return packed("audio/ogg"),
        b"wav" => return packed("audio/wav"),
        b"flac" => return packed("audio/flac"),
        b"weba" => return packed("audio/webm"),
        b"mp4" | b"m4v" => return packed("video/mp4"),
        b"webm" => return packed("video/webm"),
        b"ogv" => return packed("video/ogg"),
        b"mov" => return packed("video/quicktime"),
        b"m3u8" => "application/vnd.apple.mpegurl",
        b"ts" => return packed("video/mp2t"),
        b"pdf" => return packed("application/pdf"),
        b"zip" => return packed("application/zip"),
        b"gz" | b"tgz" => return packed("application/gzip"),
        b"zst" => return packed("application/zstd"),
        b"bz2" => return packed("application/x-bzip2"),
        b"xz" => return packed("application/x-xz"),
        b"7z" => return packed("application/x-7z-compressed"),
        b"tar" => return packed("application/x-tar"),
        b"epub" => return packed("application/epub+zip"),
        b"docx" => return packed("application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        b"xlsx" => return packed("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        b"pptx" => {
            return packed("application/vnd.openxmlformats-officedocument.presentationml.presentation");
        }
        b"odt" => return packed("application/vnd.oasis.opendocument.text"),
        b"ods" => return packed("application/vnd.oasis.opendocument.spreadsheet"),
        _ => return packed("application/octet-stream"),
    };
    Kind { name, is_compressible: true }
}

const fn packed(name: &'static str) -> Kind {
    Kind { name, is_compressible: false }
}

/// A coding of which there may be files beside the ones that they are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// The smallest files first, as a rule.
    pub(crate) const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// As `Content-Encoding` has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What such a file's name ends with.
    pub(super) const fn ending(self) -> &'static str {
        match self {
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }
}

/// Those that an `Accept-Encoding` lets be sent (RFC 9110 §12.5.3). By how much a client likes one better than another is of no
/// importance to it: they all come to the same.
pub(crate) fn accepted(value: &[u8]) -> Vec<Coding> {
    let mut weights = Vec::new();
    let mut others = false;
    for element in value.split(|byte| *byte == b',') {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let is_refused = parts.any(|part| {
            part.strip_prefix(b"q=")
                .or(part.strip_prefix(b"Q="))
                .is_some_and(|weight| weight.iter().all(|byte| matches!(byte, b'0' | b'.')))
        });
        if name == b"*" {
            others = !is_refused;
        }
        weights.push((name, !is_refused));
    }
    let is_accepted = |coding: &Coding| {
        let named = weights.iter().find(|(name, _)| name.eq_ignore_ascii_case(coding.name().as_bytes()));
        named.map_or(others, |(_, accepted)| *accepted)
    };
    Coding::ALL.into_iter().filter(is_accepted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_the_end_of_the_name() {
        for (path, name) in [
            ("index.html", "text/html; charset=utf-8"),
            ("a.b/INDEX.HTM", "text/html; charset=utf-8"),
            ("app.3f9a.js", "text/javascript; charset=utf-8"),
            ("x.wasm", "application/wasm"),
            ("a.html/x", "application/octet-stream"),
            ("x.", "application/octet-stream"),
            ("html", "application/octet-stream"),
            (".html", "text/html; charset=utf-8"),
        ] {
            assert_eq!(kind(path.as_bytes()).name, name, "{path}");
        }
        assert!(kind(b"x.svg").is_compressible && !kind(b"x.png").is_compressible);
    }

    #[test]
    fn codings_that_a_client_takes() {
        use Coding::{Brotli, Gzip, Zstd};
        for (value, expected) in [
            ("", &[][..]),
            ("gzip", &[Gzip]),
            ("gzip, deflate, br, zstd", &[Brotli, Zstd, Gzip]),
            ("GZIP;q=0.5, br;q=0", &[Gzip]),
            ("br;q=0.000, *", &[Zstd, Gzip]),
            ("*;q=0", &[]),
            ("*;q=0, gzip;q=1", &[Gzip]),
            ("identity", &[]),
            ("br ; q=0.1", &[Brotli]),
        ] {
            assert_eq!(accepted(value.as_bytes()), expected, "{value}");
        }
    }
}
