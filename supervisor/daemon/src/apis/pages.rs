//! The documents of an application's pages: of each, what clients get to by the routes that are its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use watt_api::mesh::RoutePage;
use watt_core::plan::{ApiPage, Description, PathMatch, Plan, Route, RouteTarget};
use watt_openapi::{About, Composed, Ignored, Rules, Source, Way, compose};

/// Documents by what the proxy calls them.
pub(crate) type Documents = BTreeMap<String, Arc<str>>;

/// What the proxy has to know of a page.
pub(crate) fn page(listener: Option<&str>, route: &Route, page: &ApiPage) -> RoutePage {
    RoutePage { document: id(listener, route), title: page.title.clone().unwrap_or_default() }
}

/// What the proxy calls a page's document.
fn id(listener: Option<&str>, route: &Route) -> String {
    format!("{}:{}{}", listener.unwrap_or_default(), route.host.as_deref().unwrap_or_default(), route.path)
}

/// Makes them, and says what is wrong with what services say.
pub(super) fn make(
    plan: &Plan,
    texts: &HashMap<String, Arc<[u8]>>,
) -> (Documents, BTreeSet<(String, String)>) {
    let rules: BTreeMap<&str, Rules> = plan
        .services
        .values()
        .filter_map(|service| Some((service.id.as_str(), self::rules(service.openapi.as_ref()?))))
        .collect();
    let sources: Vec<Source<'_>> = rules
        .iter()
        .filter_map(|(service, rules)| Some(Source { service, text: texts.get(*service)?, rules }))
        .collect();
    let own = plan
        .listeners
        .iter()
        .filter_map(|(name, listener)| Some((Some(name.as_str()), listener.routes.as_ref()?)));
    let (mut documents, mut problems) = (Documents::new(), BTreeSet::new());
    for (listener, routes) in own.chain([(None, &plan.routes)]) {
        for route in routes {
            let RouteTarget::ApiPage(page) = &route.target else { continue };
            let about = About {
                title: page.title.clone().unwrap_or_else(|| plan.name.to_string()),
                version: page.version.clone(),
                description: page.description.clone(),
            };
            let Composed { document, problems: found, .. } =
                compose(&about, &sources, &ways(routes, route.host.as_deref()));
            documents.insert(id(listener, route), document.into());
            problems.extend(found.into_iter().map(|problem| (problem.service, problem.text)));
        }
    }
    (documents, problems)
}

fn rules(description: &Description) -> Rules {
    let Description { from: _, base, refresh: _, ignore, rename } = description;
    let ignored =
        |(method, path): &(Option<String>, String)| Ignored { method: method.clone(), path: path.clone() };
    Rules { base: base.clone(), ignore: ignore.iter().map(ignored).collect(), rename: rename.clone() }
}

/// How clients get to services, those of the page's host if it is for one.
fn ways(routes: &[Route], host: Option<&str>) -> Vec<Way> {
    let is_for_all = |route: &&Route| route.conditions.is_empty() && route.matching != PathMatch::Regex;
    let is_of_host = |route: &&Route| host.is_none() || route.host.is_none() || route.host.as_deref() == host;
    routes.iter().filter(is_for_all).filter(is_of_host).map(way).collect()
}

fn way(route: &Route) -> Way {
    let service = match &route.target {
        RouteTarget::Service(service) => Some(service),
        // What most clients meet.
        RouteTarget::Split { shares, .. } => {
            shares.iter().rev().max_by_key(|(_, weight)| *weight).map(|(service, _)| service)
        }
        RouteTarget::Upstream(_)
        | RouteTarget::Files(_)
        | RouteTarget::ApiPage(_)
        | RouteTarget::Redirect { .. }
        | RouteTarget::Respond { .. } => None,
    };
    Way {
        service: service.map(ToString::to_string),
        path: route.path.clone(),
        is_exact: route.matching == PathMatch::Exact,
        host: route.host.clone(),
        methods: route.methods.clone(),
        rewrite: route.rewrite.clone(),
        is_deprecated: route.deprecation.is_some(),
        sunset: route.sunset.as_ref().map(|notice| notice.date.clone()),
    }
}
