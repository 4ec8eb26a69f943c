//! What the parts of a description are called in the one of all: `<service>_<name>`, so that a service that comes or goes changes the names of no
//! other, or what the operator says.

use std::collections::{BTreeMap, HashMap, btree_map::Entry};

/// Everything that was given a name.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By section and name: whose it is.
    taken: BTreeMap<(String, String), String>,
    /// By section, service and part: what it is called.
    given: HashMap<(String, String, String), String>,
    /// By section and name that two wanted: how many have it with a number.
    counted: HashMap<(String, String), usize>,
}

/// A name that was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    /// The service that has the name which was wanted.
    pub(crate) because_of: Option<String>,
}

impl Names {
    /// A name for a part of a service's description, the same each time. `wanted` is what it would be called.
    pub(crate) fn give(&mut self, section: &str, service: &str, part: &str, wanted: &str) -> Given {
        let of = (section.to_owned(), service.to_owned(), part.to_owned());
        if let Some(name) = self.given.get(&of) {
            return Given { name: name.clone(), because_of: None };
        }
        let mut name = plain(wanted);
        let mut because_of = None;
        loop {
            match self.taken.entry((section.to_owned(), name.clone())) {
                Entry::Vacant(free) => {
                    free.insert(service.to_owned());
                    self.given.insert(of, name.clone());
                    return Given { name, because_of };
                }
                Entry::Occupied(taken) => {
                    because_of.get_or_insert_with(|| taken.get().clone());
                    let count = self.counted.entry((section.to_owned(), plain(wanted))).or_insert(1);
                    *count += 1;
                    name = format!("{}_{count}", plain(wanted));
                }
            }
        }
    }
}

/// With characters alone that names of components may have.
pub(crate) fn plain(name: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    name.chars().map(allowed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_one_thing() {
        let mut names = Names::default();
        let mut check = |service: &str, part: &str, wanted: &str, name: &str, because_of: Option<&str>| {
            let given = names.give("schemas", service, part, wanted);
            assert_eq!(given, Given { name: name.to_owned(), because_of: because_of.map(str::to_owned) });
        };
        check("a", "b_c", "a_b_c", "a_b_c", None);
        check("a", "b_c", "a_b_c", "a_b_c", None);
        check("a_b", "c", "a_b_c", "a_b_c_2", Some("a"));
        check("a_b", "c", "a_b_c", "a_b_c_2", None);
        check("a", "x y", "a_x y", "a_x_y", None);
        check("a", "x/y", "a_x/y", "a_x_y_2", Some("a"));
        check("a", "x.y", "a_x.y", "a_x.y", None);
    }

    #[test]
    fn many_that_want_one_name_do_not_take_long() {
        let mut names = Names::default();
        let mut last = String::new();
        for number in 0..20_000 {
            last = names.give("schemas", "a", &number.to_string(), "x").name;
        }
        assert_eq!(last, "x_20000");
    }
}
