//! `keylane dlq redrive`: writes dead letters back.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use keylane::redrive::ops::{OnRefused, TaskState};
use keylane::redrive::{Edit, Ended, MergePatch, Planned, RedriveRequest, RedriveTask};

use super::super::Report;
use super::super::confirm::confirm;
use super::plan::Plan;
use super::read::block_on;
use super::status::in_a_word;
use super::through::Through;
use super::{ops, stop};
use crate::Surroundings;
use crate::arguments::{EditArguments, RedriveArguments};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::output::{Cell, Table};
use crate::progress::Bar;

const COLUMNS: &[&str] = &[
    "group", "task", "topic", "state", "copied", "gone", "refused", "done", "of", "reason",
];
/// A file of a merge patch is no larger: neither is a task's record.
const LARGEST_PATCH_BYTES: u64 = 64 * 1024;

pub(super) fn run(
    connection: &Connection,
    arguments: &RedriveArguments,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    match &arguments.resume {
        Some(id) => resume(connection, arguments, id, surroundings),
        None => start(connection, arguments, surroundings),
    }
}

fn start(
    connection: &Connection,
    arguments: &RedriveArguments,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    let task = |planned: Option<&Planned>| task(connection, arguments, planned, surroundings);
    let planned = plan(task(None)?)?;
    let to_run = task(Some(&planned))?;
    let plan = Plan {
        planned: &planned,
        max: arguments.max,
        take_over: arguments.take_over,
    };
    let mut notes = plan.notes();
    let table = plan.table();
    let refusal = plan.refusal();
    if arguments.sure.dry_run {
        notes.extend(refusal.map(|text| format!("note: it would be refused: {text}")));
        notes.push("note: nothing was copied".to_owned());
        return Ok(Report {
            notes,
            ..table.into()
        });
    }
    if let Some(reason) = refusal {
        return Err(Failure::Refused(format!("nothing was copied: {reason}")));
    }
    if planned.turns == 0 {
        notes.push("note: there is nothing to copy".to_owned());
        return Ok(Report {
            notes,
            ..table.into()
        });
    }
    // Before the question, and while it runs.
    for note in &notes {
        writeln!(surroundings.messages, "{note}")?;
    }
    if !arguments.sure.yes {
        write!(
            surroundings.messages,
            "{}",
            table.render(Default::default())
        )?;
        confirm(&mut surroundings.ask, &plan.question())?;
    }
    let bar = Arc::new(Bar::new(surroundings.progress, "copying", plan.copies()));
    let ended = block_on(|| with_progress(to_run, bar).run())??;
    Ok(report(&arguments.letters.topic, &ended))
}

fn plan(task: RedriveTask) -> Result<Planned, Failure> {
    Ok(block_on(|| task.plan())??)
}

/// Goes on with a task as it was started.
fn resume(
    connection: &Connection,
    arguments: &RedriveArguments,
    id: &str,
    surroundings: &mut Surroundings<'_>,
) -> Result<Report, Failure> {
    let topic = &arguments.letters.topic;
    let groups = match &arguments.group {
        Some(group) => vec![group.clone()],
        None => ops::groups(connection)?,
    };
    let mut found = None;
    for group in groups {
        let (state, _) = ops::state(connection, &group)?;
        if let Some(task) = state.task(id).filter(|task| task.record.topic == *topic) {
            let done = task.progress.map_or(0, |it| it.done);
            found = Some((group, done, task.record.counts.turns));
            break;
        }
    }
    let Some((group, done, turns)) = found else {
        let text = format!("there is no redrive {id} of {topic}; look with `keylane dlq status`");
        return Err(Failure::Refused(text));
    };
    let about =
        format!("the redrive {id} of {topic}, group {group}: {done} of {turns} letters are done");
    if arguments.sure.dry_run {
        let mut report = Report::from(Table::new(COLUMNS));
        report.notes = vec![
            format!("note: {about}"),
            "note: nothing was copied".to_owned(),
        ];
        return Ok(report);
    }
    if !arguments.sure.yes {
        confirm(
            &mut surroundings.ask,
            &format!("Go on with {about}. Go on?"),
        )?;
    }
    let who = ops::who(&arguments.by, &surroundings.environment)?;
    let task = connection.redrive(topic).group(group).by(who);
    let task = edited(explained(task, arguments), arguments)?;
    let bar = Arc::new(Bar::new(surroundings.progress, "copying", turns));
    let ended = block_on(|| with_progress(task, bar).resume(id))??;
    Ok(report(topic, &ended))
}

/// The task as it was described. One that is run is for the letters that were planned.
fn task(
    connection: &Connection,
    arguments: &RedriveArguments,
    planned: Option<&Planned>,
    surroundings: &Surroundings<'_>,
) -> Result<RedriveTask, Failure> {
    let who = ops::who(&arguments.by, &surroundings.environment)?;
    let mut request = request(arguments);
    if let Some(planned) = planned {
        request.group.get_or_insert_with(|| planned.group.clone());
        request.ranges = Some(planned.ranges.clone());
    }
    let task = connection.redrive(&arguments.letters.topic);
    let task = task.requested(&request, SystemTime::now())?.by(who);
    edited(explained(task, arguments), arguments)
}

/// The flags as fields of a request.
fn request(arguments: &RedriveArguments) -> RedriveRequest {
    let mut request = RedriveRequest::default();
    request.filter.clone_from(&arguments.letters.filter);
    request.group.clone_from(&arguments.group);
    request.to.clone_from(&arguments.target.to);
    request
        .retry_topic
        .clone_from(&arguments.target.retry_topic);
    request.rate = arguments.rate;
    request.max = arguments.max;
    request.window = arguments.window;
    request.canary = arguments.canary;
    request.proceed_if = arguments.proceed_if;
    request.max_count = arguments.max_count;
    request.name.clone_from(&arguments.name);
    request.take_over = arguments.take_over;
    if arguments.skip_refused {
        request.on_refused = OnRefused::Skip;
    }
    request
}

fn explained(task: RedriveTask, arguments: &RedriveArguments) -> RedriveTask {
    match &arguments.why {
        Some(why) => task.why(why),
        None => task,
    }
}

fn edited(task: RedriveTask, arguments: &RedriveArguments) -> Result<RedriveTask, Failure> {
    Ok(match edit(&arguments.edit)? {
        Some(edit) => task.edit(edit),
        None => task,
    })
}

/// What is done to the values.
enum AnyEdit {
    Patch(MergePatch),
    Through(Through),
}

impl Edit for AnyEdit {
    fn text(&self) -> String {
        match self {
            Self::Patch(patch) => patch.text(),
            Self::Through(through) => through.text(),
        }
    }

    fn edit(
        &mut self,
        letter: &keylane::dead_letter::StoredLetter,
    ) -> Result<Option<bytes::Bytes>, String> {
        match self {
            Self::Patch(patch) => patch.edit(letter),
            Self::Through(through) => through.edit(letter),
        }
    }
}

fn edit(arguments: &EditArguments) -> Result<Option<AnyEdit>, Failure> {
    if let Some(command) = &arguments.through {
        return Ok(Some(AnyEdit::Through(Through::new(command))));
    }
    let Some(patch) = &arguments.merge_patch else {
        return Ok(None);
    };
    let text = match patch.strip_prefix('@') {
        Some(path) => {
            let wrong = |reason: String| Failure::Usage(format!("--merge-patch: {path}: {reason}"));
            let size = fs::metadata(path)
                .map_err(|error| wrong(error.to_string()))?
                .len();
            if size > LARGEST_PATCH_BYTES {
                return Err(wrong("a merge patch has 64 KiB at most".to_owned()));
            }
            fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?
        }
        None => patch.clone(),
    };
    let patch = MergePatch::parse(&text);
    let patch = patch.map_err(|reason| Failure::Usage(format!("--merge-patch: {reason}")));
    Ok(Some(AnyEdit::Patch(patch?)))
}

fn with_progress(task: RedriveTask, bar: Arc<Bar>) -> RedriveTask {
    task.stop(stop::requested()).on_progress(move |progress| {
        bar.set(progress.done);
        bar.say(match progress.awaits_canary {
            true => "waiting for the canary",
            false => "copying",
        });
    })
}

/// What became of it. Letters that were not copied are missing.
fn report(topic: &str, ended: &Ended) -> Report {
    let progress = &ended.progress;
    let row = vec![
        Cell::text(&ended.group),
        Cell::text(&ended.id),
        Cell::text(topic),
        Cell::text(in_a_word(ended.state)),
        Cell::count(progress.copied()),
        Cell::count(progress.gone),
        Cell::count(progress.refused),
        Cell::count(progress.done),
        Cell::count(progress.turns),
        super::cells::text(ended.reason.as_deref()),
    ];
    let left = progress.turns - progress.done.min(progress.turns);
    let mut missing = Vec::new();
    let mut notes = Vec::new();
    match ended.state {
        TaskState::Running => missing.push(format!(
            "it was stopped, and {left} letters are left: go on with `keylane dlq redrive {topic} --group {} --resume {}`",
            ended.group, ended.id
        )),
        TaskState::Done => {
            let beyond = ended.counts.turns - progress.turns.min(ended.counts.turns);
            if beyond > 0 {
                notes.push(format!("note: {beyond} further letters match, beyond --max"));
            }
            if progress.copied() > 0 {
                notes.push(format!(
                    "note: copied is not processed yet: `keylane oldest {}` shows what waits",
                    ended.group
                ));
            }
        }
        state => {
            let reason = ended.reason.as_deref().unwrap_or("no reason was given");
            let state = in_a_word(state);
            missing.push(format!("it ended as {state}, and {left} letters are left: {reason}"));
        }
    }
    let refused_before = ended.counts.guard + ended.counts.refused;
    for (count, what) in [
        (progress.gone, "letters were no longer in the topic"),
        (progress.refused, "letters were passed over"),
        (refused_before, "letters were refused before it began"),
    ] {
        if count > 0 {
            missing.push(format!("{count} {what}"));
        }
    }
    missing.extend(ended.refused.examples.iter().cloned());
    Report {
        notes,
        missing,
        ..Table::of_one(COLUMNS, row).into()
    }
}
