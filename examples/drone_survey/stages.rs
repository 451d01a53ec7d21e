use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use coral_core::{Error, Result, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Of larger files not all bytes are looked at, but size, time of change, and both ends.
const LARGE: u64 = 64 << 20;

/// The fingerprint of a file that is not there.
const NONE: &str = "none";

/// One step of a job: what it depends on and what it leaves.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Its name, fit for a file.
    pub name: String,
    /// The settings its result depends on.
    pub settings: Value,
    /// The files and folders it reads.
    pub inputs: Vec<PathBuf>,
    /// The files it writes.
    pub outputs: Vec<PathBuf>,
}

/// A file and what tells its content from another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Where it was; the same file elsewhere is no change.
    path: PathBuf,
    fingerprint: String,
}

/// What a stage was made of, beside the fingerprints of what it made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    settings: Value,
    inputs: Vec<Seen>,
    outputs: Vec<Seen>,
}

/// A stage whose inputs were looked at.
#[derive(Debug)]
pub struct Check {
    /// Why the stage has to be run; `None` when it is done.
    pub reason: Option<String>,
    /// Tells this run of the stage from runs with other settings or inputs.
    pub key: String,
    inputs: Vec<Seen>,
}

/// Which stages of a job are done. A stage is done when its record stands in `stages/NAME.json` and settings, inputs and
/// outputs are what they were; the record is written last, so that a killed stage counts for nothing.
#[derive(Debug)]
pub struct Stages {
    folder: PathBuf,
}

impl Stages {
    /// The records of the job that writes to `out`.
    pub fn new(out: &Path) -> Self {
        Self { folder: out.join("stages") }
    }

    /// Looks at the files of a stage and says whether it has to be run.
    ///
    /// # Errors
    /// [`Error::Io`] when a file or the record cannot be read.
    pub fn check(&self, stage: &Stage) -> Result<Check> {
        let inputs = seen(&stage.inputs)?;
        Ok(Check { reason: self.reason(stage, &inputs)?, key: key(&stage.settings, &inputs)?, inputs })
    }

    fn reason(&self, stage: &Stage, inputs: &[Seen]) -> Result<Option<String>> {
        let path = self.record(stage);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some("was never completed".into())),
            bytes => bytes.map_err(|error| Error::io(&path, error))?,
        };
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else {
            return Ok(Some("has an unreadable record".into()));
        };
        if record.settings != as_stored(&stage.settings)? {
            return Ok(Some("has other settings".into()));
        }
        let outputs = seen(&stage.outputs)?;
        for (what, now, then) in [("input", inputs, &record.inputs), ("output", &outputs, &record.outputs)] {
            if now.len() != then.len() {
                return Ok(Some(format!("has {} {what}s instead of {}", now.len(), then.len())));
            }
            if let Some((now, _)) = now.iter().zip(then).find(|(now, then)| now.fingerprint != then.fingerprint) {
                return Ok(Some(format!("has another {what} {}", now.path.display())));
            }
        }
        Ok(None)
    }

    /// Runs a stage, telling `work` its key, and keeps the record of it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the stage and an input that is not there; what `work` reports; [`Error::Io`].
    pub fn run(&self, stage: &Stage, check: Check, work: impl FnOnce(&str) -> Result<()>) -> Result<()> {
        if let Some(missing) = check.inputs.iter().find(|input| input.fingerprint == NONE) {
            let reason = format!("is not there; stage `{}` needs it, run the stages before it first", stage.name);
            return Err(Error::input(missing.path.display().to_string(), reason));
        }
        let record = self.record(stage);
        if let Err(error) = fs::remove_file(&record)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::io(&record, error));
        }
        work(&check.key)?;
        fs::create_dir_all(&self.folder).map_err(|error| Error::io(&self.folder, error))?;
        let done = Record { settings: stage.settings.clone(), inputs: check.inputs, outputs: seen(&stage.outputs)? };
        let text = serde_json::to_string_pretty(&done).map_err(Error::model)?;
        write_atomically(&record, |out| writeln!(out, "{text}"))
    }

    fn record(&self, stage: &Stage) -> PathBuf {
        self.folder.join(format!("{}.json", stage.name))
    }
}

impl Stage {
    /// Tells this run of the stage from runs with other settings or inputs.
    ///
    /// # Errors
    /// [`Error::Io`] when an input cannot be read.
    pub fn key(&self) -> Result<String> {
        key(&self.settings, &seen(&self.inputs)?)
    }
}

/// Paths have no part in it, so that a job goes on from another folder, too.
fn key(settings: &Value, inputs: &[Seen]) -> Result<String> {
    let inputs: Vec<&str> = inputs.iter().map(|input| input.fingerprint.as_str()).collect();
    let parts = serde_json::to_vec(&(settings, inputs)).map_err(Error::model)?;
    Ok(hex(&Sha256::digest(parts)))
}

/// Settings as a record gives them back: numbers may be written shorter than they are.
fn as_stored(settings: &Value) -> Result<Value> {
    serde_json::to_string(settings).and_then(|text| serde_json::from_str(&text)).map_err(Error::model)
}

fn seen(paths: &[PathBuf]) -> Result<Vec<Seen>> {
    paths.iter().map(|path| Ok(Seen { path: path.clone(), fingerprint: fingerprint(path)? })).collect()
}

/// What tells a file's content from another; [`NONE`] where there is no file. Of a folder, the names, sizes and times of its
/// files.
fn fingerprint(path: &Path) -> Result<String> {
    let fail = |error| Error::io(path, error);
    let about = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(NONE.into()),
        about => about.map_err(fail)?,
    };
    let mut hash = Sha256::new();
    if about.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).map_err(fail)?;
        let mut lines = Vec::new();
        for entry in entries {
            // Through links, of which downloaded models are made.
            let about = fs::metadata(entry.path()).map_err(|error| Error::io(entry.path(), error))?;
            lines.push(format!("{}\n{}\n{}\n", entry.file_name().display(), about.len(), changed(&about)));
        }
        lines.sort();
        lines.iter().for_each(|line| hash.update(line));
        return Ok(hex(&hash.finalize()));
    }
    let mut file = File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    if about.len() <= LARGE {
        file.read_to_end(&mut bytes).map_err(fail)?;
    } else {
        const END: u64 = 1 << 20;
        Read::by_ref(&mut file).take(END).read_to_end(&mut bytes).map_err(fail)?;
        file.seek(SeekFrom::End(-(END as i64))).map_err(fail)?;
        file.read_to_end(&mut bytes).map_err(fail)?;
        bytes.extend_from_slice(format!("{}\n{}", about.len(), changed(&about)).as_bytes());
    }
    hash.update(&bytes);
    Ok(hex(&hash.finalize()))
}

/// Nanoseconds since 1970; 0 where the file system does not know.
fn changed(about: &fs::Metadata) -> u128 {
    about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |time| time.as_nanos())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    struct Job {
        folder: tempfile::TempDir,
        stages: Stages,
    }

    impl Job {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("in"), "1").unwrap();
            let stages = Stages::new(folder.path());
            Self { folder, stages }
        }

        fn stage(&self, settings: Value) -> Stage {
            let at = |name: &str| self.folder.path().join(name);
            Stage { name: "copy".into(), settings, inputs: vec![at("in")], outputs: vec![at("out")] }
        }

        fn run(&self, stage: &Stage) {
            let copy = || fs::copy(&stage.inputs[0], &stage.outputs[0]).map(drop).map_err(|e| Error::io("out", e));
            self.stages.run(stage, self.stages.check(stage).unwrap(), |_| copy()).unwrap();
        }

        fn reason(&self, stage: &Stage) -> String {
            self.stages.check(stage).unwrap().reason.unwrap_or_else(|| "done".into())
        }
    }

    #[test]
    fn a_stage_is_done_until_something_changes() {
        let job = Job::new();
        let stage = job.stage(json!({"rate": 0.1}));
        assert_eq!(job.reason(&stage), "was never completed");
        job.run(&stage);
        assert_eq!(job.reason(&stage), "done");
        assert_eq!(job.reason(&job.stage(json!({"rate": 0.2}))), "has other settings");
        fs::write(&stage.inputs[0], "2").unwrap();
        assert!(job.reason(&stage).starts_with("has another input"));
        job.run(&stage);
        // The same bytes again are no change.
        fs::write(&stage.inputs[0], "2").unwrap();
        assert_eq!(job.reason(&stage), "done");
        fs::remove_file(&stage.outputs[0]).unwrap();
        assert!(job.reason(&stage).starts_with("has another output"));
    }

    #[test]
    fn a_job_goes_on_in_another_folder() {
        let (job, other) = (Job::new(), Job::new());
        let (stage, moved) = (job.stage(json!(1)), other.stage(json!(1)));
        job.run(&stage);
        fs::rename(job.folder.path().join("stages"), other.folder.path().join("stages")).unwrap();
        fs::rename(&stage.outputs[0], &moved.outputs[0]).unwrap();
        assert_eq!(other.reason(&moved), "done");
        assert_eq!(stage.key().unwrap(), moved.key().unwrap());
        let more = Stage { inputs: [&moved.inputs[..], &moved.outputs].concat(), ..moved };
        assert_eq!(other.reason(&more), "has 2 inputs instead of 1");
    }

    #[test]
    fn a_failed_stage_is_not_done() {
        let job = Job::new();
        let stage = job.stage(json!(null));
        job.run(&stage);
        let run = |work: &dyn Fn() -> Result<()>| {
            let check = job.stages.check(&stage).unwrap();
            job.stages.run(&stage, check, |_| work())
        };
        let failed = run(&|| Err(Error::input("disk", "full")));
        assert!(failed.unwrap_err().to_string().contains("full"));
        assert_eq!(job.reason(&stage), "was never completed");
        fs::remove_file(&stage.inputs[0]).unwrap();
        let missing = run(&|| Ok(())).unwrap_err().to_string();
        assert!(missing.contains("/in`: is not there; stage `copy` needs it"), "{missing}");
    }

    #[test]
    fn folders_change_with_their_files() {
        let job = Job::new();
        let stage = Stage { inputs: vec![job.folder.path().join("frames")], ..job.stage(json!(null)) };
        fs::create_dir(&stage.inputs[0]).unwrap();
        fs::write(stage.inputs[0].join("a.jpg"), "a").unwrap();
        let write = |_: &str| fs::write(&stage.outputs[0], "x").map_err(|e| Error::io("out", e));
        job.stages.run(&stage, job.stages.check(&stage).unwrap(), write).unwrap();
        assert_eq!(job.reason(&stage), "done");
        let key = stage.key().unwrap();
        fs::write(stage.inputs[0].join("b.jpg"), "b").unwrap();
        assert!(job.reason(&stage).starts_with("has another input"));
        assert_ne!(stage.key().unwrap(), key);
    }
}
