//! What is wrong with descriptions.

use std::fmt;

/// How much is told of one service. Whoever writes a description sees by these what the others are.
const TOLD_MAX: usize = 20;

/// Something that is wrong with a service's description, or that two of them say of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whose description it is.
    pub service: String,
    /// In words.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { service, text } = self;
        write!(f, "{service}: {text}")
    }
}

/// Those of all services.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    told: Vec<Problem>,
    of_service: usize,
}

impl Problems {
    /// Those that follow are of another service.
    pub(crate) fn next_service(&mut self) {
        self.of_service = 0;
    }

    pub(crate) fn add(&mut self, service: &str, text: String) {
        self.of_service += 1;
        let text = match self.of_service {
            ..=TOLD_MAX => shortened(text),
            _ if self.of_service == TOLD_MAX + 1 => "and more of the kind".to_owned(),
            _ => return,
        };
        let problem = Problem { service: service.to_owned(), text };
        if !self.told.contains(&problem) {
            self.told.push(problem);
        }
    }

    pub(crate) fn into_told(self) -> Vec<Problem> {
        self.told
    }
}

/// What a description calls something may be as long as the description.
fn shortened(mut text: String) -> String {
    if text.len() > 300 {
        let end = (0..=300).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
