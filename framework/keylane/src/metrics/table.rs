//! Structs of series, written as tables. A line has the name, the kind and the metric of a series,
//! and its value where that is a figure of a snapshot.

use std::time::Duration;

use keylane_core::Position;

use super::labels::LabelValue;
use super::series::{Each, GaugeSeries};

/// Makes a struct of series with `in_scope`, `flush` and `touch`, and with `show` where it has a
/// section `shown`. The sections of the table:
///
/// * `direct`: the recorder has it at once;
/// * `buffered`: given to the recorder by `flush`, in the order of the table, and on drop;
/// * `shown from (name: Type)`: gauges, each with its value, set all together by `show`.
macro_rules! series {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident;
        $(direct { $($(#[$direct_doc:meta])* $direct:ident: $direct_kind:ty = $direct_def:ident,)* })?
        $(buffered { $($(#[$buffered_doc:meta])* $buffered:ident: $buffered_kind:ty = $buffered_def:ident,)* })?
        $(shown from ($figures:ident: $from:ty) {
            $($(#[$shown_doc:meta])* $shown:ident: $shown_kind:ty = $shown_def:ident => $value:expr,)*
        })?
    ) => {
        $(#[$doc])*
        #[derive(Debug)]
        $vis struct $name {
            $($($(#[$direct_doc])* $direct: $direct_kind,)*)?
            $($($(#[$buffered_doc])* $buffered: $buffered_kind,)*)?
            $($($(#[$shown_doc])* $shown: $shown_kind,)*)?
        }

        impl $name {
            fn in_scope(scope: &$crate::metrics::series::Scope) -> Self {
                use $crate::metrics::names;
                Self {
                    $($($direct: scope.series(&names::$direct_def),)*)?
                    $($($buffered: scope.series(&names::$buffered_def),)*)?
                    $($($shown: scope.series(&names::$shown_def),)*)?
                }
            }

            $(
                /// Sets the gauges; a comparison each where nothing changed. A figure that is not
                /// known leaves its gauge as it is.
                pub(crate) fn show(&mut self, $figures: $from) {
                    use $crate::metrics::table::Show;
                    $(self.$shown.show($value);)*
                }
            )?

            /// Gives the recorder what is buffered.
            $vis fn flush(&mut self) {
                #[allow(unused_imports, reason = "a table may have nothing that is buffered")]
                use $crate::metrics::series::Series;
                $($(self.$buffered.flush();)*)?
            }

            /// Keeps quiet series alive in a recorder with an idle time-out, and finds a recorder
            /// that was installed late. About every ten seconds; some tens of microseconds.
            $vis fn touch(&mut self) {
                use $crate::metrics::series::Series;
                self.flush();
                $($(self.$direct.touch();)*)?
                $($(self.$buffered.touch();)*)?
                $($(self.$shown.touch();)*)?
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                self.flush();
            }
        }
    };
}

pub(super) use series;

/// Gauges that show a value of this type.
pub(super) trait Show<V> {
    fn show(&mut self, value: V);
}

impl<V: Level> Show<V> for GaugeSeries {
    #[inline]
    fn show(&mut self, value: V) {
        if let Some(level) = value.level() {
            self.set(level);
        }
    }
}

/// A value for each value of the label.
impl<L: LabelValue, V: Level, F: Fn(L) -> V> Show<F> for Each<L, GaugeSeries> {
    #[inline]
    fn show(&mut self, value_of: F) {
        for (gauge, each) in self.iter_mut().zip(L::ALL) {
            gauge.show(value_of(*each));
        }
    }
}

/// A figure as a gauge has it; `None` where it is not known.
pub(super) trait Level {
    fn level(self) -> Option<f64>;
}

impl<V: Level> Level for Option<V> {
    #[inline]
    fn level(self) -> Option<f64> {
        self.and_then(V::level)
    }
}

macro_rules! levels {
    ($($kind:ty: |$value:ident| $level:expr;)+) => {
        $(impl Level for $kind {
            #[inline]
            fn level(self) -> Option<f64> {
                let $value = self;
                Some($level)
            }
        })+
    };
}

levels! {
    bool: |is_so| f64::from(u8::from(is_so));
    u32: |number| f64::from(number);
    u64: |number| number as f64;
    i64: |number| number as f64;
    Position: |position| position.get() as f64;
    Duration: |time| time.as_secs_f64();
}
