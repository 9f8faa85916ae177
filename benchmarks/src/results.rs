//! What is kept: every sample as a line of JSON, as soon as it is there, and the tables beside
//! them.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Plan;
use crate::machine::Machine;
use crate::measure::{Job, Sample};

pub(crate) struct Results {
    samples: File,
    stem: PathBuf,
}

#[derive(Serialize)]
pub(crate) struct Line<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) arm: &'a str,
    pub(crate) round: usize,
    pub(crate) job: &'a Job,
    pub(crate) sample: &'a Sample,
}

impl Results {
    pub(crate) fn create(
        out: &Path,
        label: &str,
        machine: &Machine,
    ) -> Result<Self, Box<dyn Error>> {
        std::fs::create_dir_all(out)
            .map_err(|error| format!("create {}: {error}", out.display()))?;
        let stem = out.join(label);
        let mut results = Self {
            samples: File::create(stem.with_extension("jsonl"))?,
            stem,
        };
        results.write(machine)?;
        Ok(results)
    }

    pub(crate) fn add(&mut self, line: &Line<'_>) -> Result<(), Box<dyn Error>> {
        self.write(line)
    }

    /// Writes the tables; returns where.
    pub(crate) fn table(
        &self,
        machine: &Machine,
        plan: &Plan,
        tables: &str,
        bars: &str,
    ) -> Result<PathBuf, Box<dyn Error>> {
        let path = self.stem.with_extension("md");
        let Machine {
            processor,
            cores,
            memory_gib,
            kernel,
            load_before,
            ..
        } = machine;
        let text = format!(
            "{cores} × {processor}, {memory_gib} GiB, Linux {kernel}; load before the run {load_before}; {} rounds, scale {}, \
             cut off after {} s.\n\n{tables}\n{bars}",
            plan.rounds, plan.scale, plan.max_seconds
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    pub(crate) fn samples_path(&self) -> PathBuf {
        self.stem.with_extension("jsonl")
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Box<dyn Error>> {
        writeln!(self.samples, "{}", serde_json::to_string(line)?)?;
        Ok(())
    }
}
