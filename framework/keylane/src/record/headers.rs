//! Record headers: an ordered multimap of names to optional bytes.

use bytes::Bytes;

/// The headers of a record, in the order they were written. Names may repeat and values may be
/// null, as in Kafka.
///
/// The values of a record that was read share one memory: copy what is to be kept.
///
/// # Examples
/// ```
/// use keylane::Headers;
///
/// let mut headers: Headers = [("tenant", "a"), ("gate", "north")].into_iter().collect();
/// headers.push("tenant", "b");
/// headers.push_null("flag");
/// assert_eq!(headers.last_str("tenant"), Some("b"));
/// assert_eq!(headers.len(), 4);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Option<Bytes>)>);

impl Headers {
    /// No headers.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// These, of which a value may be null.
    pub(crate) fn of(headers: Vec<(String, Option<Bytes>)>) -> Self {
        Self(headers)
    }

    /// Appends a header, keeping those of the same name.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<Bytes>) {
        self.0.push((name.into(), Some(value.into())));
    }

    /// Appends a header with a null value.
    pub fn push_null(&mut self, name: impl Into<String>) {
        self.0.push((name.into(), None));
    }

    /// The value of the last header of that name: Kafka's convention where names repeat.
    pub fn last(&self, name: &str) -> Option<&Bytes> {
        self.0
            .iter()
            .rev()
            .find(|(n, _)| n == name)
            .and_then(|(_, value)| value.as_ref())
    }

    /// The last header of that name as text; `None` also where it is not UTF-8.
    pub fn last_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.last(name)?).ok()
    }

    /// Whether there is one of this name, also without a value.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.iter().any(|(other, _)| other == name)
    }

    /// Removes every header of that name.
    ///
    /// # Examples
    /// ```
    /// use keylane::Headers;
    ///
    /// let mut headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
    /// headers.remove("a");
    /// assert_eq!(headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
    /// ```
    pub fn remove(&mut self, name: &str) {
        self.retain(|other| other != name);
    }

    /// Keeps those of the names for which this is true.
    pub(crate) fn retain(&mut self, mut keeps: impl FnMut(&str) -> bool) {
        self.0.retain(|(name, _)| keeps(name));
    }

    /// Keeps the first ones.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// The number of headers.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        Self(
            headers
                .into_iter()
                .map(|(name, value)| (name.into(), Some(value.into())))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_wins_and_removal_takes_all() {
        let mut headers: Headers = [("a", "1"), ("b", "2"), ("a", "3")].into_iter().collect();
        headers.push_null("n");
        assert_eq!(headers.last_str("a"), Some("3"));
        assert_eq!(headers.last("n"), None);
        headers.remove("a");
        assert_eq!(
            headers.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["b", "n"]
        );
    }
}
