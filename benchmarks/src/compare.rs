//! The run as a whole: every scenario, every round, every arm in turn.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Instant;

use keylane_integration_tests::kafka::{Found, Kafka, Nodes};

use crate::Plan;
use crate::arms::Arm;
use crate::machine::Machine;
use crate::measure::{Job, KEY_BYTES, Sample, Work};
use crate::peers::Peers;
use crate::results::{Line, Results};
use crate::scenario::{Keys, Scenario, catalogue};
use crate::{bars, table, topic};

/// A scenario with what its arms did.
pub(crate) struct Comparison {
    pub(crate) scenario: Scenario,
    pub(crate) arms: Vec<Samples>,
}

pub(crate) struct Samples {
    pub(crate) arm: Arm,
    pub(crate) in_flight: (usize, usize),
    pub(crate) samples: Vec<Sample>,
}

/// Workers of arms that hash keys to them, where records only compute: more of them only cost.
const LANES_WITHOUT_WAITS: usize = 16;

pub(crate) async fn compare(plan: &Plan) -> Result<(), Box<dyn Error>> {
    let machine = Machine::look();
    let scenarios = chosen(plan, machine.iterations_per_micro)?;
    let wanted: Vec<Arm> = Arm::ALL
        .into_iter()
        .filter(|arm| scenarios.iter().any(|it| it.arms.contains(arm)))
        .collect();
    let (peers, runnable) = Peers::build(&wanted);
    let kafka = match &plan.bootstrap {
        Some(servers) => Kafka::connect(servers, Nodes::One),
        None => Kafka::find(Nodes::One),
    };
    let kafka = match kafka {
        Found::Running(kafka) => kafka,
        Found::Unavailable(reason) => {
            return Err(format!("no kafka to measure on: {reason}").into());
        }
    };
    let mut results = Results::create(&plan.out, &plan.label, &machine)?;
    let mut comparisons = Vec::new();
    for mut scenario in scenarios {
        scenario.arms.retain(|arm| runnable.contains(arm));
        let comparison = Runner {
            plan,
            kafka: &kafka,
            peers: &peers,
            results: &mut results,
        }
        .run(scenario)
        .await?;
        println!("{}", table::render(&comparison));
        comparisons.push(comparison);
    }
    let tables: Vec<String> = comparisons.iter().map(table::render).collect();
    let bars = bars::render(&comparisons);
    println!("{bars}");
    let path = results.table(&machine, plan, &tables.join("\n"), &bars)?;
    println!(
        "written to {} and {}",
        results.samples_path().display(),
        path.display()
    );
    Ok(())
}

fn chosen(plan: &Plan, iterations_per_micro: f64) -> Result<Vec<Scenario>, Box<dyn Error>> {
    let all = catalogue(iterations_per_micro);
    let is_meant = |pattern: &str, name: &str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    };
    if let Some(unknown) = plan
        .scenario
        .iter()
        .find(|it| !all.iter().any(|scenario| is_meant(it, &scenario.name)))
    {
        return Err(format!("there is no scenario {unknown}; `list` shows them").into());
    }
    let arms: Vec<Arm> = plan
        .arms
        .iter()
        .map(|name| {
            Arm::named(name).ok_or_else(|| format!("there is no arm {name}; `list` shows them"))
        })
        .collect::<Result<_, _>>()?;
    let mut scenarios: Vec<Scenario> = all
        .into_iter()
        .filter(|it| {
            plan.scenario.is_empty()
                || plan
                    .scenario
                    .iter()
                    .any(|pattern| is_meant(pattern, &it.name))
        })
        .collect();
    for scenario in &mut scenarios {
        scenario.records = ((scenario.records as f64 * plan.scale) as u64).max(1);
        scenario.pending = (scenario.pending as f64 * plan.scale) as usize;
        let named: Vec<Arm> = scenario
            .arms
            .iter()
            .copied()
            .filter(|arm| arms.contains(arm))
            .collect();
        if !arms.is_empty() {
            // Arms that the scenario is not about run unless others were selected.
            scenario.arms = if named.is_empty() {
                arms.clone()
            } else {
                named
            };
        }
    }
    Ok(scenarios)
}

struct Runner<'a> {
    plan: &'a Plan,
    kafka: &'a Kafka,
    peers: &'a Peers,
    results: &'a mut Results,
}

impl Runner<'_> {
    async fn run(&mut self, scenario: Scenario) -> Result<Comparison, Box<dyn Error>> {
        eprintln!("{}: {}", scenario.name, scenario.about);
        let filled = match scenario.paced {
            Some(_) => None,
            None => {
                let topic = self.topic(&scenario).await?;
                topic::fill(self.kafka.bootstrap_servers(), &topic, &scenario)?;
                Some(topic)
            }
        };
        let in_flight = |arm: Arm| arm.in_flight(&self.job(&scenario, "", arm));
        let mut arms: Vec<Samples> = scenario
            .arms
            .iter()
            .map(|&arm| Samples {
                arm,
                in_flight: in_flight(arm),
                samples: Vec::new(),
            })
            .collect();
        for round in 1..=self.plan.rounds {
            for samples in &mut arms {
                let arm = samples.arm;
                let topic = match &filled {
                    Some(topic) => topic.clone(),
                    None => self.topic(&scenario).await?,
                };
                let job = self.job(&scenario, &topic, arm);
                let began = Instant::now();
                match self.once(&scenario, arm, &job).await {
                    Ok(sample) => {
                        eprintln!(
                            "  round {round} {}: {:.0}/s, {:.1?}",
                            arm.name(),
                            sample.rate,
                            began.elapsed()
                        );
                        self.results.add(&Line {
                            scenario: &scenario.name,
                            arm: arm.name(),
                            round,
                            job: &job,
                            sample: &sample,
                        })?;
                        samples.samples.push(sample);
                    }
                    // One arm that fails is not the end of the others; its row shows that it has
                    // fewer samples.
                    Err(error) => eprintln!("  round {round} {}: failed: {error}", arm.name()),
                }
                if filled.is_none() {
                    self.kafka.delete_topic(&topic).await?;
                }
            }
        }
        if let Some(topic) = filled {
            self.kafka.delete_topic(&topic).await?;
        }
        Ok(Comparison { scenario, arms })
    }

    async fn topic(&self, scenario: &Scenario) -> Result<String, Box<dyn Error>> {
        let topic = self.kafka.unique(&format!("benchmark-{}", scenario.name));
        self.kafka
            .create_topic(&topic, scenario.partitions, 1, &[])
            .await?;
        Ok(topic)
    }

    fn job(&self, scenario: &Scenario, topic: &str, arm: Arm) -> Job {
        let busy = scenario.busy_partitions as usize;
        let in_flight_total = (scenario.in_flight * busy).max(scenario.pending);
        let waits = !matches!(
            scenario.work,
            Work::Nothing | Work::Compute { .. } | Work::SomeFail { .. }
        );
        let stuck = match (scenario.work, scenario.keys) {
            (Work::StuckKey { .. }, Keys::Uniform(keys)) => scenario.records.div_ceil(keys),
            _ => 0,
        };
        let key_bytes = if scenario.keys == Keys::Null {
            0
        } else {
            KEY_BYTES
        };
        Job {
            bootstrap_servers: self.kafka.bootstrap_servers().to_owned(),
            topic: topic.to_owned(),
            group: self.kafka.unique(arm.name()),
            partitions: scenario.partitions,
            records: scenario.records,
            keys: scenario.keys.count(scenario.records),
            primers: scenario
                .paced
                .map_or(0, |_| scenario.busy_partitions as u64),
            needed: scenario.records - stuck,
            work: scenario.work,
            in_flight_per_partition: scenario.in_flight,
            in_flight_total,
            lanes: if waits {
                in_flight_total
            } else {
                LANES_WITHOUT_WAITS
            },
            pending: scenario.pending,
            max_seconds: self.plan.max_seconds,
            record_bytes: key_bytes + scenario.value_bytes,
        }
    }

    /// One run in a process of its own.
    async fn once(
        &self,
        scenario: &Scenario,
        arm: Arm,
        job: &Job,
    ) -> Result<Sample, Box<dyn Error>> {
        let servers = self.kafka.bootstrap_servers();
        if scenario.paced.is_some() {
            topic::prime(servers, &job.topic, scenario)?;
        }
        let mut child = Ended(
            self.peers
                .command(arm, job)?
                .stdout(Stdio::piped())
                .spawn()?,
        );
        let lines = child
            .0
            .stdout
            .take()
            .map(BufReader::new)
            .into_iter()
            .flat_map(BufReader::lines);
        let mut sample = None;
        for line in lines {
            let line = line?;
            match (line.as_str(), scenario.paced) {
                ("ready", Some(rate)) => topic::pace(servers, &job.topic, scenario, rate)?,
                (line, _) if line.starts_with('{') => sample = Some(serde_json::from_str(line)?),
                (line, _) => eprintln!("    {line}"),
            }
        }
        let status = child.0.wait()?;
        match sample {
            Some(sample) => Ok(sample),
            None => Err(format!("it ended without a sample: {status}").into()),
        }
    }
}

/// A process that does not outlive what it was started for.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It has ended already, but where something failed here.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
