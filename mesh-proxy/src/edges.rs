//! Who calls whom, by which route, how that ended and how long it took: an edge of the application's graph for each.
//!
//! An edge is looked up once a request and then only added to. Each thread has its own; they are summed up where they are told.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
};

use tokio::time::Instant;
use watt_api::mesh::{EDGE_BOUNDS_US, EdgeCounts, EdgeOf};

use crate::http::Side;

/// From where and by which way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    from: From,
    /// Of the gateway's requests.
    route: Option<Rc<str>>,
}

impl Way {
    fn edge(&self, service: &str) -> EdgeOf {
        EdgeOf {
            caller: self.from.name().to_owned(),
            service: service.to_owned(),
            route: self.route.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum From {
    Gateway,
    Operator,
    Service(Rc<str>),
}

impl From {
    fn name(&self) -> &str {
        match self {
            From::Gateway => EdgeOf::GATEWAY,
            From::Operator => EdgeOf::OPERATOR,
            From::Service(name) => name,
        }
    }
}

/// Those that lead to a service.
#[derive(Debug, Default)]
pub(crate) struct Edges(RefCell<HashMap<Way, Rc<Edge>>>);

/// What was counted since it was told.
#[derive(Debug, Default)]
struct Edge(Cell<EdgeCounts>);

impl Edges {
    /// A request begins that came in there, along this route.
    pub(crate) fn begin(&self, side: &Side, route: Option<&Rc<str>>) -> Timed {
        let from = match side {
            Side::Gateway => From::Gateway,
            Side::Mesh { caller: None } => From::Operator,
            Side::Mesh { caller: Some(caller) } => From::Service(Rc::clone(caller)),
        };
        let way = Way { from, route: route.cloned() };
        let edge = Rc::clone(self.0.borrow_mut().entry(way).or_default());
        Timed { edge, since: Instant::now(), status: 0 }
    }

    /// What was counted of each since this was asked last, of those of which anything was.
    pub(crate) fn news(&self, service: &str) -> Vec<(EdgeOf, EdgeCounts)> {
        let edges = self.0.borrow();
        let taken = edges.iter().map(|(way, edge)| (way, edge.0.take()));
        let changed = taken.filter(|(_, counts)| *counts != EdgeCounts::default());
        changed.map(|(way, counts)| (way.edge(service), counts)).collect()
    }

    /// Forgets those that there are no longer.
    pub(crate) fn keep(&self, service: &str, is_left: impl Fn(&EdgeOf) -> bool) {
        self.0.borrow_mut().retain(|way, _| is_left(&way.edge(service)));
    }
}

/// A request that is counted when it is over, whichever way it ends.
#[derive(Debug)]
pub(crate) struct Timed {
    edge: Rc<Edge>,
    since: Instant,
    /// What the client got; 0 is nothing.
    pub(crate) status: u16,
}

impl Timed {
    /// From here on it is another protocol's connection, which is none of the requests that one wants to know the time of.
    pub(crate) fn switched(mut self) {
        self.status = 101;
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.edge.0.get();
        let class = usize::from(self.status / 100);
        counts.by_class[if class < counts.by_class.len() { class } else { 0 }] += 1;
        let bucket = EDGE_BOUNDS_US.partition_point(|bound| *bound < took);
        counts.by_time[bucket] += 1;
        counts.us += took;
        self.edge.0.set(counts);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counted(news: &[(EdgeOf, EdgeCounts)], caller: &str, route: &str) -> EdgeCounts {
        let of = EdgeOf { caller: caller.into(), service: "api".into(), route: route.into() };
        news.iter().find(|(edge, _)| *edge == of).unwrap_or_else(|| panic!("no {of:?}")).1
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_counted_once_by_where_it_came_from_and_how_it_ended() {
        let edges = Edges::default();
        let (shop, other): (Rc<str>, Rc<str>) = ("/shop".into(), "/other".into());
        let from_web = Side::Mesh { caller: Some("web".into()) };
        let begin = |side: &Side, route, status| {
            let mut timed = edges.begin(side, route);
            timed.status = status;
            timed
        };
        drop(begin(&Side::Gateway, Some(&shop), 200));
        let slow = begin(&Side::Gateway, Some(&shop), 503);
        tokio::time::advance(Duration::from_millis(30)).await;
        drop(slow);
        drop(begin(&Side::Gateway, Some(&other), 404));
        drop(begin(&from_web, None, 0));
        begin(&from_web, None, 0).switched();
        drop(begin(&Side::Mesh { caller: None }, None, 999));

        let news = edges.news("api");
        let shop_counts = counted(&news, "@gateway", "/shop");
        assert_eq!(shop_counts.by_class, [0, 0, 1, 0, 0, 1]);
        assert_eq!((shop_counts.by_time[0], shop_counts.us), (1, 30_000));
        let bound = EDGE_BOUNDS_US.iter().position(|bound| *bound == 50_000).unwrap();
        assert_eq!(shop_counts.by_time[bound], 1);
        assert_eq!(counted(&news, "web", "").by_class, [1, 1, 0, 0, 0, 0]);
        assert_eq!(counted(&news, "@operator", "").by_class, [1, 0, 0, 0, 0, 0], "an odd status is none");

        assert_eq!(edges.news("api"), [], "all of it was told");
        drop(begin(&Side::Gateway, Some(&shop), 200));
        drop(begin(&Side::Gateway, Some(&other), 200));
        edges.keep("api", |edge| edge.route != "/other");
        let news = edges.news("api");
        assert_eq!((news.len(), counted(&news, "@gateway", "/shop").by_class), (1, [0, 0, 1, 0, 0, 0]));
    }
}
