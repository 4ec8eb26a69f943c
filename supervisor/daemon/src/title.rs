//! What watt's own processes are called in `ps`.

/// Makes this process read as `wattctl <role> <app>`. A title is a courtesy, so that failing is not an error. The arguments
/// have to be read before.
pub fn set(role: &str, app: &str) {
    let _ = watt_os::prctl::set_title(&format!("wattctl {role} {app}"));
}
