use std::{collections::BTreeSet, env, fs};

use serde_json::json;

use super::*;

/// With something of everything.
fn scrape() -> Vec<Family> {
    let at = "2026-01-01T00:00:00.500Z";
    let worker = json!({
        "index": 0, "state": "ready", "since": at, "restarts": 2, "memory": 1000, "cpu_us": 1_500_000, "pids": 3,
        "started_at": at, "last_output": [], "run": 7, "pid": 4711, "endpoint": null, "deadline_ms": null,
        "last_exit": null, "cpu_millis": 10, "pids_limit": null,
    });
    // Of a worker that is being replaced the one that is ready counts.
    let mut leaving = worker.clone();
    (leaving["state"], leaving["part"], leaving["memory"]) = (json!("draining"), json!("leaves"), json!(5));
    let status: Status = serde_json::from_value(json!({
        "app": "shop \"1\"", "file": "/srv/shop/watt.yaml", "version": "0.1.0", "started_at": at, "loaded_at": at, "digest": "00",
        "gateway": null, "warnings": [],
        "tls": {
            "completed": 5, "failed": { "timeout": 1 },
            "certificates": [{ "file": "/srv/shop/cert.pem", "names": ["shop"], "expires_at": at }],
        },
        "supervisor": {
            "spawner_pid": 1, "daemon_pid": 2, "proxy_pid": 3, "daemon_restarts": 1, "proxy_restarts": 0, "memory": 2000,
            "program": "/usr/bin/wattctl", "proxies": [],
        },
        "services": [{
            "id": "web", "state": "ready", "ready": 1, "wanted": 2, "workers": [worker, leaving], "sandbox": "standard", "unenforced": [],
            "requests": { "total": 10, "failures": 1, "in_flight": 2, "held": 3, "breaker_is_open": true, "retries": 4,
                "refused": { "shed": 5 }, "ejections": 6, "ejected": 1, "cache": { "hits": 7, "stored": 8 } },
        }],
    }))
    .unwrap();
    let group = json!({
        "service": "web", "worker": 0, "limits": {}, "memory": 1, "memory_peak": 4096, "cpu_us": 1, "pids": 1,
        "hits": { "oom_kills": 1, "memory_high": 2, "pids": 3, "cpu": 4, "cpu_us": 250_000 },
    });
    let limits = serde_json::from_value(json!({ "groups": [group, group] })).unwrap();
    let edge = EdgeOf { caller: EdgeOf::GATEWAY.into(), service: "web".into(), route: "/api".into() };
    let mut counts = EdgeCounts { us: 1_200_000, ..EdgeCounts::default() };
    (counts.by_class[2], counts.by_class[5]) = (3, 1);
    (counts.by_time[0], counts.by_time[EDGE_BOUNDS_US.len()]) = (3, 1);
    families(&status, &limits, Some(&[(edge, counts)].into()))
}

#[test]
fn figures_have_names_labels_and_units() {
    let text = render(scrape(), Format::Text).unwrap();
    for line in [
        "# TYPE watt_requests_total counter",
        "watt_requests_total{service=\"web\"} 10",
        "watt_requests_in_flight{service=\"web\"} 2.0",
        "watt_breaker_open{service=\"web\"} 1.0",
        "watt_request_retries_total{service=\"web\"} 4",
        "watt_requests_refused_total{service=\"web\",reason=\"shed\"} 5",
        "watt_worker_ejections_total{service=\"web\"} 6",
        "watt_workers_ejected{service=\"web\"} 1.0",
        "watt_cache_requests_total{service=\"web\",result=\"hit\"} 7",
        "watt_cache_stored_total{service=\"web\"} 8",
        "watt_worker_state{service=\"web\",worker=\"0\",state=\"ready\"} 1.0",
        "watt_worker_cpu_seconds_total{service=\"web\",worker=\"0\"} 1.5",
        "watt_worker_memory_bytes{service=\"web\",worker=\"0\"} 1000.0",
        "watt_limit_cpu_throttled_seconds_total{service=\"web\",worker=\"0\"} 0.25",
        "watt_start_time_seconds 1767225600.5",
        "watt_build_info{app=\"shop \\\"1\\\"\",version=\"0.1.0\"} 1",
        "watt_edge_requests_total{caller=\"@gateway\",service=\"web\",route=\"/api\",code=\"5xx\"} 1",
        "# TYPE watt_edge_request_duration_seconds histogram",
        "watt_edge_request_duration_seconds_sum{caller=\"@gateway\",service=\"web\",route=\"/api\"} 1.2",
        "watt_edge_request_duration_seconds_bucket{caller=\"@gateway\",service=\"web\",route=\"/api\",le=\"0.0005\"} 3",
        "watt_edge_request_duration_seconds_bucket{caller=\"@gateway\",service=\"web\",route=\"/api\",le=\"10\"} 3",
        "watt_edge_request_duration_seconds_bucket{caller=\"@gateway\",service=\"web\",route=\"/api\",le=\"+Inf\"} 4",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    assert!(!text.contains("e+308"), "{text}");
    let open = render(scrape(), Format::OpenMetrics).unwrap();
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE watt_requests counter\n"), "{open}");
    assert!(open.contains("# UNIT watt_worker_cpu_seconds seconds\n"), "{open}");
}

#[test]
fn every_family_says_what_it_is_and_no_sample_twice() {
    let mut names = BTreeSet::new();
    for family in scrape() {
        assert!(names.insert(family.name), "{} is there twice", family.name);
        assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{}", family.name);
        assert!(!family.samples.is_empty(), "{} is not in the test's status", family.name);
        let labels: BTreeSet<Vec<(&str, String)>> =
            family.samples.iter().map(|(labels, _)| labels.clone()).collect();
        assert_eq!(labels.len(), family.samples.len(), "{}", family.name);
    }
}

#[test]
fn who_accepts_open_metrics_gets_it() {
    assert_eq!(Format::accepted(None), Format::Text);
    assert_eq!(Format::accepted(Some("text/plain;version=0.0.4;q=0.5,*/*;q=0.1")), Format::Text);
    assert_eq!(
        Format::accepted(Some("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5")),
        Format::OpenMetrics
    );
}

/// docs/metrics.md has every family. `WATT_BLESS=1` writes its table anew.
#[test]
fn the_table_in_docs_is_current() {
    const BEGIN: &str = "<!-- generated -->\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let kept = fs::read_to_string(path).unwrap();
    let (before, _) = kept.split_once(BEGIN).expect("where the table begins");
    let text = render(scrape(), Format::Text).unwrap();
    let mut table = "| name | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    let mut help = "";
    for line in text.lines() {
        if let Some((_, text)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            help = text;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' '))
        {
            let family = scrape().into_iter().find(|family| family.help == help).unwrap();
            let mut labels: Vec<&str> = Vec::new();
            for (label, _) in family.samples.iter().flat_map(|(labels, _)| labels) {
                if !labels.contains(label) {
                    labels.push(label);
                }
            }
            table += &format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "));
        }
    }
    let current = format!("{before}{BEGIN}{table}");
    if env::var_os("WATT_BLESS").is_some() {
        fs::write(path, &current).unwrap();
    }
    let kept = fs::read_to_string(path).unwrap();
    assert!(kept == current, "docs/metrics.md is not current; run this test with WATT_BLESS=1");
}
