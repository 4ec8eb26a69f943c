//! Plans for tests.

use watt_core::{
    AppName, ServiceId,
    plan::{Hold, Limits, Listen, Logs, Network, Plan, Ready, ReadyWhen, Restart, Service, Stop, Timeouts},
};

/// The application `shop` with these services, each of them `sleep 1000` with every default.
pub(crate) fn plan(services: &[&str]) -> Plan {
    let services = services.iter().map(|name| service(name)).map(|service| (service.id.clone(), service));
    Plan {
        name: AppName::new("shop").unwrap(),
        file: "/srv/shop/watt.yaml".into(),
        root: "/srv/shop".into(),
        server: None,
        services: services.collect(),
        routes: Vec::new(),
        policies: Vec::new(),
        hold: Hold::default(),
        logs: Logs::default(),
    }
}

fn service(name: &str) -> Service {
    Service {
        id: ServiceId::new(name).unwrap(),
        path: "/srv/shop".into(),
        command: vec!["sleep".into(), "1000".into()],
        env: Default::default(),
        workers: std::num::NonZeroU16::MIN,
        listen: Listen::Auto,
        network: Network::Private,
        host_ports: Default::default(),
        depends_on: Default::default(),
        ready: Ready { when: ReadyWhen::Listening, timeout: std::time::Duration::from_secs(30) },
        restart: Restart::default(),
        stop: Stop::default(),
        limits: Limits::default(),
        timeouts: Timeouts::default(),
    }
}
