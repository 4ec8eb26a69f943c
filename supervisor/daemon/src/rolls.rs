//! How far rolls are, as events: one for each worker that was replaced, and one for an end before the last.

use crate::{
    app::App,
    events::rolls::{RollFailed, Rolled},
    words,
};

impl App {
    /// Tells what is new of rolls.
    pub(crate) fn tell_rolls(&mut self) {
        for plan in self.plan.services.values() {
            let progress = self.fleet.roll_progress(&plan.id);
            let before = self.rolls_told.get(&plan.id).copied();
            if progress == before {
                continue;
            }
            match (progress, before) {
                (Some(progress), _) => {
                    self.rolls_told.insert(plan.id.clone(), progress);
                    self.events.emit(Rolled { service: plan.id.clone(), progress });
                }
                (None, _) => {
                    let Some(mut last) = self.rolls_told.remove(&plan.id) else { continue };
                    match self.fleet.failed_roll(&plan.id) {
                        Some(why) => {
                            let why = words::roll_failed(why, Some(plan));
                            self.events.emit(RollFailed { service: plan.id.clone(), why });
                        }
                        // The last one has been replaced, or nobody wants it any more.
                        None if self.fleet.is_wanted(&plan.id) => {
                            last.replaced = last.of;
                            self.events.emit(Rolled { service: plan.id.clone(), progress: last });
                        }
                        None => {}
                    }
                }
            }
        }
    }
}
