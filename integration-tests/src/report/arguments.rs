//! `--name value`, and nothing else.

use std::{collections::BTreeMap, process, str::FromStr};

/// The arguments of a report program, each with a default.
#[derive(Debug)]
pub struct Arguments {
    given: BTreeMap<String, String>,
}

impl Arguments {
    /// Those of this process. Ends it with a message where one is not among `known`.
    pub fn of_this_process(known: &[&str]) -> Self {
        match Self::parse(std::env::args().skip(1), known) {
            Ok(arguments) => arguments,
            Err(message) => stop(&message),
        }
    }

    fn parse(mut words: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").filter(|name| known.contains(name));
            let name = name
                .ok_or_else(|| format!("{word} is not known; there are --{}", known.join(" --")))?;
            let value = words
                .next()
                .ok_or_else(|| format!("--{name} takes a value"))?;
            given.insert(name.to_owned(), value);
        }
        Ok(Self { given })
    }

    /// The value of `--name`. Ends the process with a message where it cannot be read.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> T {
        match self
            .given
            .get(name)
            .map(|value| value.parse().map_err(|_| value))
        {
            None => default,
            Some(Ok(value)) => value,
            Some(Err(value)) => stop(&format!("--{name} cannot be {value}")),
        }
    }
}

fn stop(message: &str) -> ! {
    eprintln!("{message}");
    process::exit(2)
}

#[cfg(test)]
mod tests {
    use super::Arguments;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(
            line.split_whitespace().map(str::to_owned),
            &["rate", "seconds"],
        )
    }

    #[test]
    fn what_is_given_replaces_the_default() {
        let arguments = parse("--rate 500").unwrap();
        assert_eq!(
            (
                arguments.value("rate", 2_000),
                arguments.value("seconds", 75)
            ),
            (500, 75)
        );
    }

    #[test]
    fn what_is_not_known_or_has_no_value_is_named() {
        assert_eq!(
            parse("--speed 5").unwrap_err(),
            "--speed is not known; there are --rate --seconds"
        );
        assert_eq!(parse("--rate").unwrap_err(), "--rate takes a value");
    }
}
