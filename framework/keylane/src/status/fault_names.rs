//! The names of places and classes of errors, and the core's numbers for them.

use std::collections::HashMap;

use crate::support::lock::lock;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard};

use keylane_core::{ErrorClass, Place};

/// The number of places that are counted separately; the last one is for all that were named later.
const MAX_PLACES: usize = 64;
/// The number of classes that are kept by name. The core distinguishes more, by their hashes.
const MAX_CLASSES: usize = 256;
const OTHERS: &str = "others";

/// Shared by all owners of a subscription. Used by failed attempts only.
#[derive(Debug, Default)]
pub(crate) struct FaultNames {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    places: Vec<Arc<str>>,
    classes: HashMap<ErrorClass, Arc<str>>,
}

impl FaultNames {
    pub(crate) fn place(&self, name: &str) -> Place {
        let places = &mut self.known().places;
        let at = places
            .iter()
            .position(|place| **place == *name)
            .unwrap_or_else(|| {
                if places.len() < MAX_PLACES {
                    places.push(if places.len() + 1 < MAX_PLACES {
                        name.into()
                    } else {
                        OTHERS.into()
                    });
                }
                places.len() - 1
            });
        Place::new(u16::try_from(at).unwrap_or(u16::MAX))
    }

    pub(crate) fn class(&self, name: &str) -> ErrorClass {
        let mut hasher = DefaultHasher::new();
        hasher.write(name.as_bytes());
        let class = ErrorClass::new(hasher.finish());
        let classes = &mut self.known().classes;
        if classes.len() < MAX_CLASSES && !classes.contains_key(&class) {
            classes.insert(class, name.into());
        }
        class
    }

    pub(crate) fn name_of_place(&self, place: Place) -> Arc<str> {
        self.known()
            .places
            .get(usize::from(place.get()))
            .cloned()
            .unwrap_or_else(|| OTHERS.into())
    }

    pub(crate) fn name_of_class(&self, class: ErrorClass) -> Arc<str> {
        self.known()
            .classes
            .get(&class)
            .cloned()
            .unwrap_or_else(|| OTHERS.into())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_up_to_a_bound() {
        let names = FaultNames::default();
        let places: Vec<_> = (0..200)
            .map(|number| names.place(&number.to_string()))
            .collect();
        assert_eq!(places[0], names.place("0"));
        assert_ne!(places[0], places[1]);
        assert_eq!(&*names.name_of_place(places[62]), "62");
        assert_eq!(
            (places[63], &*names.name_of_place(places[199])),
            (places[199], "others")
        );
    }

    #[test]
    fn classes_have_their_names_up_to_a_bound() {
        let names = FaultNames::default();
        let classes: Vec<_> = (0..300)
            .map(|number| names.class(&number.to_string()))
            .collect();
        assert_eq!(&*names.name_of_class(classes[255]), "255");
        assert_eq!(&*names.name_of_class(classes[299]), "others");
        assert_ne!(classes[298], classes[299]);
    }
}
