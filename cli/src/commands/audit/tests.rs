use super::*;

const PLAIN: Style = Style { colours: false, width: None };

fn step(line: &str, breaks: Option<&str>) -> AuditStep {
    AuditStep {
        line: line.into(),
        key: Vec::new(),
        value: true.into(),
        exposure: 3.12,
        level: "MEDIUM".into(),
        caution: Some("look out".into()),
        breaks: breaks.map(Into::into),
    }
}

fn check(id: &str, state: AuditState, note: &str, unenforced: bool) -> AuditCheck {
    AuditCheck {
        id: id.into(),
        area: "rights".into(),
        state,
        weight: 50,
        exposure: 0.7,
        key: "sandbox.dynamic_user".into(),
        risk: "acts as root".into(),
        note: note.into(),
        unenforced,
    }
}

fn audit() -> Audit {
    let step = step("services.api.sandbox.dynamic_user: true", None);
    let breaking = self::step("services.api.sandbox.memory_deny_write_execute: true", Some("node compiles"));
    let fact = |about: &str, text: &str| AuditFact { about: about.into(), text: text.into() };
    Audit {
        app: "shop".into(),
        file: "/srv/\x1b]0;x\x07/watt.yaml".into(),
        basis: AuditBasis::Running,
        started_by_root: true,
        services: vec![AuditedService {
            id: "api".into(),
            sandbox: "standard".into(),
            exposure: 4.25,
            level: "MEDIUM".into(),
            next: Some(step.clone()),
            strict: Some(1.3),
            unenforced: vec!["memory (no cgroup can be made here)".into()],
            checks: vec![
                check("user", AuditState::Absent, "root", false),
                check("paths", AuditState::Present, "no rule opens any", false),
                check("limits.memory", AuditState::Partial, "/data/\x1b[2Jx", true),
            ],
            steps: vec![step, breaking],
            can: vec![fact("be", "root"), fact("write", "/srv/\x1b[31mred")],
            cannot: vec![fact("gain rights", "none")],
            at_most: vec![fact("memory", "no limit")],
        }],
    }
}

#[test]
fn a_line_for_each_service() {
    let lines = [
        "shop, as it runs on this host, started by root",
        "SERVICE  SANDBOX   EXPOSURE          BEST NEXT SWITCH",
        "api      standard       4.3  MEDIUM  services.api.sandbox.dynamic_user: true  (to 3.1)",
        "api: 1 thing of its configuration not enforced here, and counted as open",
    ];
    assert_eq!(overview(&audit(), PLAIN).lines().collect::<Vec<_>>(), lines);
}

#[test]
fn everything_about_one() {
    let lines = [
        "shop, as it runs on this host, started by root",
        "",
        "api  sandbox standard  exposure 4.3 MEDIUM",
        "",
        "rights",
        "  ✗ user            50  0.70  root",
        "                              acts as root",
        "  ✓ paths           50        no rule opens any",
        "  ~ limits.memory   50  0.70  /data/\\u{1b}[2Jx (configured, but not enforced on this host)",
        "                              acts as root",
        "",
        "A broken or hostile process of it can",
        "  be     root",
        "  write  /srv/red",
        "",
        "It cannot",
        "  gain rights  none",
        "",
        "It takes at most",
        "  memory  no limit",
        "",
        "Not enforced on this host, and counted as open",
        "  memory (no cgroup can be made here)",
        "",
        "Each of these lines alone would lower it, the best first",
        "  3.12  services.api.sandbox.dynamic_user: true",
        "        look out",
        "  not services.api.sandbox.memory_deny_write_execute: true: node compiles",
        "",
        "sandbox: strict would make it 1.3",
    ];
    assert_eq!(in_full(&audit(), PLAIN).lines().collect::<Vec<_>>(), lines);
}

/// Paths and names are whatever the configuration says.
#[test]
fn the_configuration_cannot_drive_the_terminal() {
    let configured = Audit { basis: AuditBasis::Configured, ..audit() };
    let text = in_full(&configured, PLAIN) + &overview(&configured, PLAIN);
    assert!(text.contains("as configured in /srv/\\u{1b}]0;x\\u{7}/watt.yaml, for root"), "{text}");
    assert!(text.contains("/data/\\u{1b}[2Jx"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn the_threshold_is_what_is_printed() {
    let fails = |threshold| judged(&audit(), threshold).is_err();
    assert!(!fails(10.0) && !fails(4.3) && !fails(4.25) && fails(4.2) && fails(0.0));
    let failure = judged(&audit(), 1.0).unwrap_err();
    assert_eq!(
        (failure.exit, failure.message.as_str()),
        (Exit::Failed, "a service is more exposed than 1.0: api 4.3")
    );
}

/// Of very many only the best.
#[test]
fn of_many_lines_the_first_eight_are_shown_and_the_others_counted() {
    let mut audit = audit();
    audit.services[0].steps =
        (0..11).map(|number| step(&format!("services.api.x: {number}"), None)).collect();
    let text = in_full(&audit, PLAIN);
    assert!((0..8).all(|number| text.contains(&format!("services.api.x: {number}\n"))), "{text}");
    assert!(text.contains("  and 3 more\n") && !text.contains("services.api.x: 8"), "{text}");
}

#[test]
fn the_word_of_an_exposure_has_its_colour() {
    let colours = [tone("OK"), tone("MEDIUM"), tone("EXPOSED"), tone("UNSAFE")];
    assert!(matches!(colours, [Tone::Good, Tone::Busy, Tone::Bad, Tone::Bad]));
}
