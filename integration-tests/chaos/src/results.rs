//! The lines of a campaign in one file, so that a campaign that was interrupted goes on where it
//! was.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;

/// What a line has to agree with so that its seed is not run once more.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The group protocol, as lines have it.
    pub protocol: &'a Value,
    /// The version of keylane: its commit.
    pub version: &'a str,
    /// The options that change what a run is.
    pub options: &'a str,
}

/// A file of lines.
#[derive(Debug)]
pub struct Results {
    path: PathBuf,
    /// The seeds that were tried already, and whether each was without a violation.
    tried: HashMap<u64, bool>,
}

impl Results {
    /// Reads the file's lines of this run. A last line that was not finished is taken out: its
    /// program was ended.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is not JSON.
    pub fn open(path: &Path, run: Run<'_>) -> io::Result<Self> {
        let mut text = if path.exists() {
            fs::read_to_string(path)?
        } else {
            String::new()
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            text.truncate(whole);
            fs::write(path, &text)?;
        }
        let mut tried = HashMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line: Value = serde_json::from_str(line)?;
            if run.is_of(&line)
                && let (Some(seed), Some(violations)) =
                    (line["seed"].as_u64(), line["violations"].as_array())
            {
                tried.insert(seed, violations.is_empty());
            }
        }
        Ok(Self {
            path: path.to_owned(),
            tried,
        })
    }

    /// Whether the seed was tried already, and without a violation.
    pub fn of(&self, seed: u64) -> Option<bool> {
        self.tried.get(&seed).copied()
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, line: &Value) -> io::Result<()> {
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}

impl Run<'_> {
    fn is_of(&self, line: &Value) -> bool {
        line["protocol"] == *self.protocol
            && line["version"] == self.version
            && line["options"] == self.options
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Results, Run};

    #[test]
    fn a_seed_is_left_out_where_it_has_a_line_of_the_same_protocol_version_and_options() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let (protocol, other) = (json!("classic"), json!("consumer"));
        let run = Run {
            protocol: &protocol,
            version: "abc",
            options: "minutes=1",
        };
        let empty = Results::open(&path, run).unwrap();
        assert_eq!(empty.of(1), None);
        let line = |seed: u64| json!({"seed": seed, "protocol": "classic", "version": "abc", "options": "minutes=1"});
        let mut kept = line(1);
        kept["violations"] = json!([]);
        let mut broken = line(2);
        broken["violations"] = json!(["lost"]);
        let mut not_tried = line(3);
        not_tried["not_tried"] = json!("no brokers");
        for line in [kept, broken, not_tried] {
            empty.add(&line).unwrap();
        }
        let of = |run, seed| Results::open(&path, run).unwrap().of(seed);
        assert_eq!(
            [of(run, 1), of(run, 2), of(run, 3), of(run, 4)],
            [Some(true), Some(false), None, None]
        );
        assert_eq!(
            of(
                Run {
                    protocol: &other,
                    ..run
                },
                1
            ),
            None
        );
        assert_eq!(
            of(
                Run {
                    version: "abd",
                    ..run
                },
                1
            ),
            None
        );
        assert_eq!(
            of(
                Run {
                    options: "minutes=2",
                    ..run
                },
                1
            ),
            None
        );
    }

    #[test]
    fn a_line_that_was_not_finished_is_taken_out() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        std::fs::write(&path, "{\"seed\":1}\n{\"seed\":2,\"pro").unwrap();
        let protocol = json!("classic");
        let results = Results::open(
            &path,
            Run {
                protocol: &protocol,
                version: "abc",
                options: "",
            },
        )
        .unwrap();
        results.add(&json!({"seed": 3})).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"seed\":1}\n{\"seed\":3}\n"
        );
    }
}
