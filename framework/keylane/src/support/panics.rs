//! Panics of our own threads and tasks end the subscription with an error (guarantee G9); here they
//! become that error's words.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Longer texts are cut. A payload may hold anything.
const LONGEST_TEXT: usize = 1_000;

/// Calls, and turns a panic into its text.
///
/// The state that the call has touched may be half changed: the caller only ends what it belongs
/// to.
pub(crate) fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    caught_as(call, |words| cut(words).to_owned())
}

/// The same, and turns a panic into what `describe` makes of its text, which may have any length.
pub(crate) fn caught_as<T, E>(
    call: impl FnOnce() -> T,
    describe: impl FnOnce(&str) -> E,
) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| described(payload, describe))
}

/// The text of a payload, which it drops.
pub(crate) fn text(payload: Box<dyn Any + Send>) -> String {
    described(payload, |words| cut(words).to_owned())
}

fn described<E>(payload: Box<dyn Any + Send>, describe: impl FnOnce(&str) -> E) -> E {
    let words = payload.downcast_ref::<&str>().copied();
    let words = words.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let described = describe(words.unwrap_or("(no message)"));
    // A payload can be of any type, also of one that panics when it is dropped.
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(another);
    }
    described
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Panics that tests plant in our own threads. Nothing of it ships.
#[cfg(test)]
pub(crate) mod planted {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::support::lock::lock;

    static HOW_MANY: AtomicUsize = AtomicUsize::new(0);
    static PLANTED: Mutex<Vec<Planted>> = Mutex::new(Vec::new());

    struct Planted {
        place: &'static str,
        key: String,
        steps: usize,
    }

    /// The step that comes after `steps` others at this place panics. `key` keeps tests apart.
    pub(crate) fn plant(place: &'static str, key: &str, steps: usize) {
        let mut planted = lock(&PLANTED);
        planted.push(Planted {
            place,
            key: key.to_owned(),
            steps,
        });
        HOW_MANY.store(planted.len(), Ordering::Release);
    }

    /// A step of one of our threads.
    pub(crate) fn step(place: &'static str, key: &str) {
        if HOW_MANY.load(Ordering::Acquire) > 0 && is_due(place, key) {
            panic!("boom");
        }
    }

    fn is_due(place: &'static str, key: &str) -> bool {
        let mut planted = lock(&PLANTED);
        let here = |planted: &Planted| planted.place == place && planted.key == key;
        let Some(found) = planted.iter().position(here) else {
            return false;
        };
        if planted[found].steps > 0 {
            planted[found].steps -= 1;
            return false;
        }
        planted.swap_remove(found);
        HOW_MANY.store(planted.len(), Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_panic_is_kept_up_to_a_bound() {
        assert_eq!(caught(|| 7), Ok(7));
        assert_eq!(caught(|| panic!("boom")), Err::<(), _>("boom".to_owned()));
        assert_eq!(
            caught(|| panic!("boom {}", 1)),
            Err::<(), _>("boom 1".to_owned())
        );
        assert_eq!(
            caught(|| std::panic::panic_any(7)),
            Err::<(), _>("(no message)".to_owned())
        );
        let long = caught(|| panic!("{}", "ä".repeat(LONGEST_TEXT))).unwrap_err();
        assert_eq!(long.len(), LONGEST_TEXT);
    }

    #[test]
    fn a_payload_that_panics_when_it_is_dropped_does_no_harm() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(
            caught(|| std::panic::panic_any(Bomb)),
            Err::<(), _>("(no message)".to_owned())
        );
    }
}
