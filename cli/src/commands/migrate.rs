//! `wattctl migrate`: writes the watt.yaml that means what a project of Platformatic Watt does. The project's own files stay as they are;
//! from then on the watt.yaml counts.

use std::{io::Write as _, path::Path};

use watt_config::{LOADER_FILE, NODE_LOADER};

use super::config;
use crate::{
    args,
    exit::{Exit, Failure, Outcome},
    text::out,
};

/// Runs the command.
pub fn run(arguments: args::Migrate) -> Outcome {
    let json = arguments.file.print.json;
    let sources = config::sources(arguments.file.named(), json)?;
    let Some(migrated) = watt_config::migrate(&sources) else {
        let message = format!("{} is no file of Platformatic's", sources.file.display());
        return Err(Failure::new(Exit::Config, message)
            .hint("a watt.json or platformatic.json says in `$schema` or `module` that it is one"));
    };
    let mut migrated = migrated.map_err(|report| config::refused(report, json))?;
    let folder = sources.file.parent().unwrap_or(Path::new("/"));
    let file = folder.join("watt.yaml");
    if let Some((path, _)) = sources.dotenv.as_ref().filter(|(path, _)| path.parent() != Some(folder)) {
        migrated.warnings.push(format!("watt reads .env beside watt.yaml: copy {} there", path.display()));
    }
    if !arguments.stdout {
        if migrated.needs_loader {
            write(&folder.join(LOADER_FILE), NODE_LOADER, true)?;
        }
        write(&file, &migrated.text, arguments.force)?;
    }
    if json {
        let written = (!arguments.stdout).then_some(&file);
        out::json(&serde_json::json!({
            "file": written, "text": migrated.text, "warnings": migrated.warnings, "loader": migrated.needs_loader,
        }));
        return Ok(Exit::Ok);
    }
    if arguments.stdout {
        out::print(&migrated.text);
    } else {
        out::print(&format!(
            "{} is written; `wattctl config check` and `wattctl up` take it from now on\n",
            file.display()
        ));
        if migrated.needs_loader {
            out::print(&format!(
                "{} beside it starts services of Node.js\n",
                folder.join(LOADER_FILE).display()
            ));
        }
    }
    config::warn(&migrated.warnings);
    Ok(Exit::Ok)
}

/// Writes a file that is not there yet, or may be replaced.
fn write(path: &Path, text: &str, replaces: bool) -> Result<(), Failure> {
    let mut options = std::fs::File::options();
    options.write(true);
    match replaces {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Failure::new(Exit::Failed, format!("{} is there already", path.display()))
                .hint("--force replaces it, --stdout prints what it would be")
        }
        _ => Failure::new(Exit::Host, format!("cannot write {}: {error}", path.display())),
    })
}
