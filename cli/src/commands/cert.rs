//! `wattctl cert`: a certificate for development, of an authority that this user alone has.

mod authority;

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::json;
use watt_supervisor::places::Places;

use self::authority::{Authority, Issued, Trouble, write};
use crate::{
    args,
    context::uid,
    exit::{Exit, Failure, Outcome},
    text::{
        out,
        style::{Style, Tone},
    },
};

/// Beside the state folders of applications, none of which is called so.
const FOLDER: &str = ".development-ca";

/// What a certificate is for unless something is said.
const USUAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Runs the command. Needs no running application.
pub fn run(arguments: args::Cert) -> Outcome {
    let args::Cert { mut names, dir, force, print } = arguments;
    if names.is_empty() {
        names = USUAL.map(str::to_owned).into();
    }
    let folder = Places::state_base(&|name| std::env::var_os(name), uid()).join(FOLDER);
    let authority = Authority::open(&folder).map_err(failure)?;
    let issued = authority.issue(&names).map_err(failure)?;
    let files = Files::of(&names, dir.as_deref().unwrap_or(Path::new(".")));
    files.write(&issued, force)?;
    match print.json {
        true => out::json(&json!({
            "certificate": files.certificate,
            "key": files.key,
            "names": names,
            "expires": issued.until.to_string(),
            "authority": authority.certificate,
            "authority_is_new": authority.is_new,
        })),
        false => out::print(&told(&names, &files, &issued, &authority, Style::stdout())),
    }
    Ok(Exit::Ok)
}

/// Where the certificate and its key are put.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Named by the first name, whose letters are all of a file's name, but for `*` and `:`.
    fn of(names: &[String], folder: &Path) -> Files {
        let name = names.first().map_or("localhost", String::as_str).replace("*", "any").replace(':', "-");
        Files { certificate: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) }
    }

    fn write(&self, issued: &Issued, force: bool) -> Result<(), Failure> {
        if let Some(there) = [&self.key, &self.certificate].into_iter().find(|path| path.exists() && !force) {
            let message = format!("{} is there already", there.display());
            return Err(Failure::new(Exit::Failed, message).hint("`--force` replaces it"));
        }
        // Whoever reads the certificate finds its key.
        write(&self.key, &issued.key, 0o600, true).map_err(failure)?;
        write(&self.certificate, &issued.certificate, 0o644, true).map_err(failure)
    }
}

fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::File { what, path, source } => {
            let exit = match source.kind() {
                io::ErrorKind::PermissionDenied => Exit::Denied,
                _ => Exit::Host,
            };
            Failure::new(exit, format!("cannot {what} {}: {source}", path.display()))
        }
        Trouble::Unusable { path, why } => Failure::new(Exit::Failed, format!("{} {why}", path.display()))
            .hint("remove it and the other file beside it, and tell browsers of the new authority"),
        Trouble::Name { name, why } => {
            Failure::new(Exit::Usage, format!("no certificate can be for {name:?}: {why}"))
                .hint("for example `wattctl cert shop.test '*.shop.test'`")
        }
    }
}

fn told(names: &[String], files: &Files, issued: &Issued, authority: &Authority, style: Style) -> String {
    let Files { certificate, key } = files;
    let ca = authority.certificate.display();
    let made = if authority.is_new { ", which was made now" } else { "" };
    let head = style.paint(Tone::Strong, &certificate.display().to_string());
    format!(
        "{head} is for {}, until {}; its key is {}.

  server:
    tls: {{ certificate: {}, key: {} }}

Clients take it once they trust the authority {ca}{made}:

  Debian, Ubuntu   sudo cp {ca} /usr/local/share/ca-certificates/watt-development.crt && sudo update-ca-certificates
  Fedora           sudo cp {ca} /etc/pki/ca-trust/source/anchors/watt-development.pem && sudo update-ca-trust
  Chrome           certutil -d sql:$HOME/.pki/nssdb -A -t C,, -n watt-development -i {ca}
  Firefox          Settings, Certificates, View, Authorities, Import
  curl             curl --cacert {ca}
  Node.js          NODE_EXTRA_CA_CERTS={ca}
  Python           SSL_CERT_FILE={ca}

Whoever can read the key beside it can pass for any site to those who trust it: it is for this machine alone.
",
        names.join(", "),
        issued.until,
        key.display(),
        plain(certificate),
        plain(key),
    )
}

/// A path as it is written in the configuration.
fn plain(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
