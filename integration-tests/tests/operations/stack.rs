//! Whether the parts of the stack in `docker/` fit each other. Nothing is started.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_norway::Value;

use super::rules::docker;

fn yaml(path: &str) -> Value {
    serde_norway::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn text(path: &str) -> String {
    fs::read_to_string(docker().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The services with their names.
fn services() -> Vec<(String, Value)> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_mapping().unwrap();
    services
        .iter()
        .map(|(name, service)| (name.as_str().unwrap().to_owned(), service.clone()))
        .collect()
}

fn service(name: &str) -> Value {
    services()
        .into_iter()
        .find(|(other, _)| other == name)
        .unwrap_or_else(|| panic!("no service {name}"))
        .1
}

fn strings(value: &Value) -> Vec<String> {
    let sequence = value.as_sequence().map(Vec::as_slice).unwrap_or_default();
    sequence
        .iter()
        .map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

/// The bind mounts of a service: here, there.
fn mounts(name: &str) -> Vec<(PathBuf, String)> {
    let volumes = strings(&service(name)["volumes"]);
    let parts = volumes
        .iter()
        .map(|volume| volume.split(':').collect::<Vec<_>>());
    parts
        .filter(|parts| parts[0].starts_with('.'))
        .map(|parts| (docker().join(parts[0]), parts[1].to_owned()))
        .collect()
}

#[test]
fn every_image_is_pinned_and_every_port_is_on_loopback() {
    for (name, service) in services() {
        let (_, tag) = service["image"]
            .as_str()
            .unwrap()
            .rsplit_once(':')
            .unwrap_or_else(|| panic!("{name}: no tag"));
        assert_ne!(tag, "latest", "{name}");
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    for image in text("Dockerfile")
        .lines()
        .filter_map(|line| line.strip_prefix("FROM "))
    {
        assert!(image.contains(':') && !image.contains(":latest"), "{image}");
    }
}

#[test]
fn services_wait_for_services_that_can_say_that_they_are_ready() {
    let mut waits = 0;
    for (name, of) in services() {
        let Some(others) = of["depends_on"].as_mapping() else {
            continue;
        };
        for (other, how) in others {
            let other = service(other.as_str().unwrap());
            match how["condition"].as_str().unwrap() {
                "service_healthy" => assert!(
                    !other["healthcheck"]["test"].is_null(),
                    "{name} waits for health"
                ),
                "service_completed_successfully" => {
                    assert_eq!(other["restart"], "no", "{name} waits for an end")
                }
                condition => panic!("{name}: {condition}"),
            }
            waits += 1;
        }
    }
    assert!(waits >= 3, "{waits}");
}

#[test]
fn everything_that_is_mounted_is_there() {
    for (name, _) in services() {
        for (path, _) in mounts(&name) {
            assert!(path.exists(), "{name} mounts {}", path.display());
        }
    }
    let build = &service("parking-notifier")["build"];
    let context = docker().join(build["context"].as_str().unwrap());
    assert!(
        context
            .join(build["dockerfile"].as_str().unwrap())
            .is_file()
    );
}

#[test]
fn prometheus_finds_its_rules_and_scrapes_where_the_example_serves() {
    let config = yaml("prometheus/prometheus.yml");
    let there: Vec<_> = mounts("prometheus")
        .into_iter()
        .map(|(_, there)| there)
        .collect();
    for file in strings(&config["rule_files"]) {
        assert!(
            there.contains(&format!("/etc/prometheus/{file}")),
            "{file} is not mounted: {there:?}"
        );
    }
    let scrape = &config["scrape_configs"][0];
    // The rules ask for it.
    assert_eq!(scrape["job_name"], "keylane");
    assert!(text("prometheus/alerts.yml").contains(r#"up{job="keylane"}"#));
    for target in strings(&scrape["static_configs"][0]["targets"]) {
        let (host, port) = target.split_once(':').unwrap();
        let command = strings(&service(host)["command"]);
        assert!(
            command.contains(&format!("--metrics-addr=0.0.0.0:{port}")),
            "{target}: {command:?}"
        );
        assert!(
            text("Dockerfile").contains(&format!("EXPOSE {port}")),
            "{target}"
        );
    }
}

#[test]
fn the_example_is_asked_for_its_health_where_it_answers() {
    let example = service("parking-notifier");
    let command = strings(&example["command"]);
    let port = command
        .iter()
        .find_map(|option| option.strip_prefix("--admin-addr=0.0.0.0:"))
        .unwrap();
    assert!(
        example["healthcheck"]["test"][3]
            .as_str()
            .unwrap()
            .contains(&format!("127.0.0.1/{port} "))
    );
    assert!(strings(&example["ports"]).contains(&format!("127.0.0.1:{port}:{port}")));
}

#[test]
fn grafana_finds_prometheus_and_the_dashboards() {
    let source = &yaml("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
    let (host, port) = source["url"]
        .as_str()
        .unwrap()
        .strip_prefix("http://")
        .unwrap()
        .split_once(':')
        .unwrap();
    assert!(
        strings(&service(host)["ports"])
            .iter()
            .any(|mapping| mapping.ends_with(&format!(":{port}")))
    );
    let provider = &yaml("grafana/provisioning/dashboards/keylane.yml")["providers"][0];
    let path = provider["options"]["path"].as_str().unwrap();
    let (here, _) = mounts("grafana")
        .into_iter()
        .find(|(_, there)| there == path)
        .unwrap();
    let home =
        service("grafana")["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].clone();
    let home = home.as_str().unwrap().strip_prefix(path).unwrap();
    assert!(here.join(home.trim_start_matches('/')).is_file(), "{home}");
}

#[test]
fn the_example_gets_options_it_has_the_topics_it_reads_and_a_kafka_that_listens() {
    let example = docker().join("../examples/quickstart/src");
    let options = fs::read_to_string(example.join("args.rs")).unwrap();
    let command = strings(&service("parking-notifier")["command"]);
    for option in &command {
        let (name, _) = option.strip_prefix("--").unwrap().split_once('=').unwrap();
        assert!(
            options.contains(&format!("pub(crate) {}:", name.replace('-', "_"))),
            "{option}"
        );
    }
    let bootstrap = command
        .iter()
        .find_map(|option| option.strip_prefix("--bootstrap="))
        .unwrap();
    let (host, _) = bootstrap.split_once(':').unwrap();
    let listeners = service(host)["environment"]["KAFKA_ADVERTISED_LISTENERS"].clone();
    assert!(
        listeners
            .as_str()
            .unwrap()
            .contains(&format!("INTERNAL://{bootstrap}")),
        "{bootstrap}"
    );

    let script = strings(&service("topics")["command"]).concat();
    assert!(script.contains(bootstrap), "{script}");
    let list = script
        .split_once("for topic in ")
        .unwrap()
        .1
        .split_once(';')
        .unwrap()
        .0;
    let created: BTreeSet<_> = list.split(' ').map(str::to_owned).collect();
    let (before, _) = options.split_once("pub(crate) topic:").unwrap();
    let (_, default) = before.rsplit_once("default_value = \"").unwrap();
    let (topic, _) = default.split_once('"').unwrap();
    assert_eq!(created, [topic.to_owned(), format!("{topic}-dlq")].into());
}

#[test]
fn the_page_of_an_operators_day_names_what_the_stack_has() {
    let repository = docker().join("..");
    let read = |path: &str| fs::read_to_string(repository.join(path)).unwrap();
    let page = read("docs/src/operations/a-day.md");
    let program = read("examples/operators-day/src/main.rs");
    let settings: Value =
        serde_norway::from_str(&read("examples/operators-day/settings.yaml")).unwrap();
    let (day, topics) = (service("day"), service("day-topics"));
    for service in [&day, &topics] {
        assert_eq!(strings(&service["profiles"]), ["day"]);
    }
    assert!(page.contains("COMPOSE_PROFILES=day"));

    let command = strings(&day["command"]);
    for option in &command {
        let (name, _) = option.strip_prefix("--").unwrap().split_once('=').unwrap();
        let field = format!("    {}: ", name.replace('-', "_"));
        assert!(program.contains(&field), "{option}");
    }
    let value = |name: &str| {
        let prefix = format!("--{name}=");
        let value = command.iter().find_map(|it| it.strip_prefix(&*prefix));
        value.unwrap_or_else(|| panic!("no {name} in {command:?}"))
    };
    let there = &mounts("day")[0];
    assert_eq!(value("settings"), there.1);
    assert!(there.0.ends_with("operators-day/settings.yaml"));
    let admin = value("admin-addr").strip_prefix("0.0.0.0:").unwrap();
    assert!(strings(&day["ports"]).contains(&format!("127.0.0.1:{admin}:{admin}")));
    assert!(page.contains(&format!("ADMIN=http://localhost:{admin}\n")));
    let health = day["healthcheck"]["test"][3].as_str().unwrap();
    assert!(health.contains(&format!("127.0.0.1/{admin} ")));
    let scrape = &yaml("prometheus/prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!(strings(&scrape["names"]), ["day"]);
    let port = scrape["port"].as_u64().unwrap();
    assert_eq!(value("metrics-addr"), format!("0.0.0.0:{port}"));

    let program_in_the_image = day["entrypoint"][0].as_str().unwrap();
    let program_name = program_in_the_image
        .strip_prefix("/usr/local/bin/")
        .unwrap();
    let dockerfile = text("Dockerfile");
    assert!(dockerfile.contains(&format!("-p {program_name} ")));
    assert!(dockerfile.contains(&format!("target/release/{program_name}\n")));
    let file = "/tmp/old-backup";
    assert!(program.contains(&format!("default_value = \"{file}\"")));
    for act in ["touch", "rm"] {
        assert!(page.contains(&format!("docker compose exec day {act} {file}\n")));
    }

    let group = settings["group"].as_str().unwrap();
    let script = strings(&topics["command"]).concat();
    assert!(
        script.contains(&format!("{group}-keylane-control ")),
        "{script}"
    );
    let bootstrap = settings["bootstrap_servers"].as_str().unwrap();
    assert!(script.contains(bootstrap), "{script}");
    for name in [group, settings["topics"][0].as_str().unwrap()] {
        assert!(page.contains(name), "{name}");
    }
}

#[test]
fn the_example_runs_as_nobody_and_hears_the_signal_that_tells_it_to_stop() {
    let dockerfile = text("Dockerfile");
    let user = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("USER "))
        .next_back()
        .unwrap();
    assert!(
        user.split(':')
            .all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)),
        "{user}"
    );
    let example = service("parking-notifier");
    // As the first process of its container it would not even notice a signal that it does not wait
    // for.
    assert!(
        example["stop_signal"].is_null(),
        "a container is stopped by SIGTERM, as anywhere else"
    );
    let main =
        fs::read_to_string(docker().join("../examples/quickstart/src/interrupt.rs")).unwrap();
    assert!(main.contains("SignalKind::terminate()"));
    let patience: u32 = example["stop_grace_period"]
        .as_str()
        .unwrap()
        .trim_end_matches('s')
        .parse()
        .unwrap();
    assert!(
        patience > 40,
        "its shutdown_timeout is 30 s, and it takes up to 10 s to leave"
    );
}
