//! The keys of TLS at the gateway.

use super::{CLIENT_CERTIFICATES, KeyDef, Kind, Preset, TLS_VERSION, Table};

pub(crate) static TLS: Table = Table {
    title: "server.tls",
    doc: "TLS at the gateway, with HTTP/2 and HTTP/1.1. The files are read when the configuration is, and with `reload: on-change` watched like it.",
    keys: &[
        KeyDef {
            name: "certificate",
            kind: Kind::FilePath,
            default: Preset::Unset("the first of `certificates`"),
            doc: "A file of PEM with the certificate, and behind it those that vouch for it. It is shown to clients that ask for no name, or for one that no certificate has.",
            example: r#""/etc/shop/tls/shop.pem""#,
        },
        KeyDef {
            name: "key",
            kind: Kind::FilePath,
            default: Preset::Derived("the file of `certificate`"),
            doc: "A file of PEM with its private key, which only the user who runs watt has to be able to read.",
            example: r#""/etc/shop/tls/shop.key""#,
        },
        KeyDef {
            name: "certificates",
            kind: Kind::List(&Kind::Table(&CERTIFICATE)),
            default: Preset::Unset("no further ones"),
            doc: "Further certificates. A client is shown the one that is for the name it asks for (SNI): an exact name before `*.example.org`, and of several the first whose kind of key it knows.",
            example: r#"[{"certificate": "api.pem", "key": "api.key"}]"#,
        },
        KeyDef {
            name: "client_ca",
            kind: Kind::FilePath,
            default: Preset::Unset("clients are not asked for certificates"),
            doc: "A file of PEM with the certificates of those who vouch for clients. Services get a client's names in `X-Client-Cert-Subject` and `X-Client-Cert-San`, and its certificate in `Client-Cert` (RFC 9440); what a client sends under these names is dropped.",
            example: r#""/etc/shop/tls/clients.pem""#,
        },
        KeyDef {
            name: "client_certificates",
            kind: Kind::Words(&CLIENT_CERTIFICATES),
            default: Preset::Value("required"),
            doc: "With `client_ca`: whether a client without a certificate is turned away.",
            example: r#""optional""#,
        },
        KeyDef {
            name: "min_version",
            kind: Kind::Words(&TLS_VERSION),
            default: Preset::Value("1.2"),
            doc: "The oldest version of TLS that is spoken.",
            example: r#""1.3""#,
        },
    ],
    foreign: &[
        ("cert", "write `certificate`"),
        ("ca", "write `client_ca`"),
        ("client_auth", "write `client_certificates`"),
        ("version", "write `min_version`"),
    ],
};

pub(crate) static CERTIFICATE: Table = Table {
    title: "server.tls.certificates",
    doc: "A further certificate.",
    keys: &[
        KeyDef {
            name: "certificate",
            kind: Kind::FilePath,
            default: Preset::Required,
            doc: "As `server.tls.certificate`. The names in it are those that it is shown for.",
            example: r#""/etc/shop/tls/api.pem""#,
        },
        KeyDef {
            name: "key",
            kind: Kind::FilePath,
            default: Preset::Derived("the file of `certificate`"),
            doc: "As `server.tls.key`.",
            example: r#""/etc/shop/tls/api.key""#,
        },
    ],
    foreign: &[("cert", "write `certificate`")],
};
