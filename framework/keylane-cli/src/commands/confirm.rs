//! The question before a change.

use crate::Ask;
use crate::failure::Failure;

/// Asks, and goes on after a yes alone. Without a terminal it refuses.
pub(super) fn confirm(ask: &mut Option<Ask<'_>>, question: &str) -> Result<(), Failure> {
    let Some(ask) = ask else {
        let text = "nothing was changed: there is no terminal to ask at; look with --dry-run, then give --yes";
        return Err(Failure::Refused(text.to_owned()));
    };
    let answer = ask(question).map_err(|error| {
        Failure::Refused(format!("nothing was changed: there is no answer: {error}"))
    });
    match answer? {
        true => Ok(()),
        false => Err(Failure::Refused("nothing was changed".to_owned())),
    }
}
