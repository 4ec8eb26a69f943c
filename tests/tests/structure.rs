//! The shape of the workspace: who may use whom (ARCHITECTURE.md, "Crates, and what is deliberately absent").

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The edges there may be. A new one is a decision: it gets its own commit, and its reason in ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 16] = [
    ("watt-core", &[]),
    ("watt-os", &[]),
    ("watt-api", &[]),
    ("watt-fault", &[]),
    ("watt-certificates", &[]),
    ("watt-openapi", &[]),
    ("watt-config", &["watt-certificates", "watt-core", "watt-policies"]),
    ("watt-exec", &["watt-os"]),
    ("watt-spawner", &["watt-exec", "watt-fault", "watt-os"]),
    ("watt-cache", &[]),
    ("watt-policies", &[]),
    ("watt-mesh-proxy", &["watt-api", "watt-cache", "watt-certificates", "watt-fault", "watt-policies"]),
    (
        "watt-supervisor",
        &[
            "watt-api",
            "watt-certificates",
            "watt-config",
            "watt-core",
            "watt-exec",
            "watt-fault",
            "watt-openapi",
            "watt-os",
            "watt-spawner",
        ],
    ),
    (
        "wattctl",
        &[
            "watt-api",
            "watt-certificates",
            "watt-config",
            "watt-core",
            "watt-mesh-proxy",
            "watt-spawner",
            "watt-supervisor",
        ],
    ),
    ("watt-tests", &[]),
    ("watt-bench", &[]),
];

#[test]
fn dependencies_point_one_way() {
    let metadata = MetadataCommand::new()
        .manifest_path(watt_tests::repository().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, uses)| (*name, uses.iter().copied().collect())).collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the list of this test"));
        for dependency in &package.dependencies {
            let ours = allowed.contains_key(dependency.name.as_str());
            // A crate's tests may drive the real thing.
            if ours && dependency.kind != DependencyKind::Development {
                assert!(may.contains(dependency.name.as_str()), "{name} may not use {}", dependency.name);
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_watt_os_only() {
    let root = watt_tests::repository();
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().unwrap();
    for package in metadata.workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).unwrap();
        let inherits = manifest.contains("[lints]\nworkspace = true");
        assert_eq!(
            inherits,
            package.name.as_str() != "watt-os",
            "{} decides about unsafe by itself",
            package.name
        );
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}
