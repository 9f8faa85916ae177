//! The text of errors that are not ours, within bounds.
//!
//! A user's error may be its own source, and its text may have any length. Both are cut here, while
//! the text is written and not after: what is formatted never exists as a whole.

use std::error::Error;
use std::fmt::{self, Display, Write};

/// `Debug` of an error that `main` may return is its sentence: that is what a user reads then.
macro_rules! debug_is_display {
    ($error:ty) => {
        impl std::fmt::Debug for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use debug_is_display;

/// The longest text of an error, without the mark that shows a cut.
pub(crate) const MAX_TEXT_BYTES: usize = 4096;
/// The most causes that are named after the error itself.
pub(crate) const MAX_CAUSES: usize = 16;

/// The error and its causes, outermost first, separated by `: `.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut kept = Bounded::default();
    kept.add(error);
    let mut causes = 0;
    let mut next = error.source();
    while let Some(cause) = next.filter(|_| !kept.is_cut()) {
        if causes == MAX_CAUSES {
            kept.text.push_str(": … (more causes)");
            break;
        }
        causes += 1;
        kept.add(format_args!(": {cause}"));
        next = cause.source();
    }
    kept.into_text()
}

/// The text of anything.
pub(crate) fn text(of: impl Display) -> String {
    let mut kept = Bounded::default();
    kept.add(of);
    kept.into_text()
}

/// Keeps the beginning of what is written and then stops the writer by an error.
#[derive(Default)]
struct Bounded {
    text: String,
    /// What was written until the writer was stopped.
    seen_bytes: usize,
}

impl Bounded {
    /// An error of `fmt` means that the text is cut, or that the user's `Display` gave up. What it
    /// wrote is kept.
    fn add(&mut self, what: impl Display) {
        let _ = write!(self, "{what}");
    }

    fn is_cut(&self) -> bool {
        self.seen_bytes > MAX_TEXT_BYTES
    }

    fn into_text(mut self) -> String {
        if self.is_cut() {
            self.text
                .push_str(&format!("… ({} bytes or more)", self.seen_bytes));
        }
        self.text
    }
}

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.is_cut() {
            return Err(fmt::Error);
        }
        let room = MAX_TEXT_BYTES - self.seen_bytes;
        self.seen_bytes = self.seen_bytes.saturating_add(piece.len());
        let mut end = piece.len().min(room);
        while !piece.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(&piece[..end]);
        if self.is_cut() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    const LONG: usize = 20 << 20;
    /// What marks and a beginning of ours add at most.
    const OURS_BYTES: usize = 128;

    /// An error that is its own source.
    #[derive(Debug)]
    pub(crate) struct OwnSource;

    impl Display for OwnSource {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }

    impl Error for OwnSource {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    /// Writes its text in pieces, and counts them.
    struct Pieces<'a>(&'a Cell<usize>);

    impl Display for Pieces<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let piece = "é".repeat(512);
            for _ in 0..LONG / piece.len() {
                self.0.set(self.0.get() + 1);
                f.write_str(&piece)?;
            }
            Ok(())
        }
    }

    /// An error with a text and perhaps a cause.
    #[derive(Debug)]
    struct Link(String, Option<Box<Link>>);

    impl Display for Link {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl Error for Link {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1
                .as_deref()
                .map(|cause| cause as &(dyn Error + 'static))
        }
    }

    /// An error whose text is as long as a record may be.
    pub(crate) fn long_error() -> impl Error + Send + Sync + 'static {
        std::io::Error::other("x".repeat(LONG))
    }

    /// Whether a text is within the bounds, with what is ours in it.
    pub(crate) fn is_bounded(text: &str) -> bool {
        text.len() <= MAX_TEXT_BYTES + OURS_BYTES
    }

    #[test]
    fn an_error_that_is_its_own_source_ends_after_sixteen_causes() {
        let text = chain(&OwnSource);
        assert_eq!(text.matches("again").count(), 1 + MAX_CAUSES);
        assert!(text.ends_with(": … (more causes)"), "{text}");
    }

    #[test]
    fn a_long_text_is_cut_while_it_is_written() {
        let pieces = Cell::new(0);
        let kept = text(Pieces(&pieces));
        assert_eq!(pieces.get(), MAX_TEXT_BYTES / 1024 + 1);
        assert_eq!(
            kept,
            format!("{}… (5120 bytes or more)", "é".repeat(MAX_TEXT_BYTES / 2))
        );
    }

    #[test]
    fn a_long_cause_is_cut_and_those_behind_it_are_left_out() {
        let last = Link("last".to_owned(), None);
        let long = Link("y".repeat(LONG), Some(Box::new(last)));
        let text = chain(&Link("first".to_owned(), Some(Box::new(long))));
        assert!(
            text.starts_with("first: yyy") && text.ends_with("… (20971527 bytes or more)"),
            "{}",
            text.len()
        );
        assert!(is_bounded(&text));
    }

    #[test]
    fn a_display_that_gives_up_leaves_what_it_wrote() {
        struct GivesUp;
        impl Display for GivesUp {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("half")?;
                Err(fmt::Error)
            }
        }
        assert_eq!(text(GivesUp), "half");
    }

    proptest! {
        #[test]
        fn a_chain_is_whole_where_it_fits_and_a_beginning_of_it_where_not(
            texts in proptest::collection::vec(prop_oneof!["\\PC{0,20}", "\\PC{1000,1500}"], 1..20),
        ) {
            let error = texts.iter().rev().fold(None, |cause, text| Some(Box::new(Link(text.clone(), cause))));
            let kept = chain(&*error.expect("one at least"));
            let whole = texts.join(": ");
            prop_assert!(is_bounded(&kept));
            if texts.len() <= 1 + MAX_CAUSES && whole.len() <= MAX_TEXT_BYTES {
                prop_assert_eq!(kept, whole);
            } else {
                let cut = kept.rfind('…').expect("a mark");
                let beginning = kept[..cut].strip_suffix(": ").unwrap_or(&kept[..cut]);
                prop_assert!(whole.starts_with(beginning));
            }
        }
    }
}
