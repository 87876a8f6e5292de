//! Where a report goes, and what must hold: what does not go together.

use std::path::Path;

use super::{Load, never, refuse_if};
use crate::failure::Failure;
use crate::system::files::followed;
use crate::values::target::Target;

impl Load {
    /// Refuses files that would be others than they look like, and gates that no run can meet.
    pub(super) fn check_outputs(&self) -> Result<(), Failure> {
        let output = &self.output;
        let files = [
            ("--json", self.json_file()),
            ("--hdr", output.hdr.as_deref()),
            ("--csv", output.csv.as_deref()),
        ];
        let files = files
            .into_iter()
            .filter_map(|(option, it)| Some((option, it?)));
        let files: Vec<(&str, &Path)> = files.collect();
        for (place, &(option, file)) in files.iter().enumerate() {
            let text = file.to_str().unwrap_or_default();
            let is_target = self.targets.is_empty() && text.parse::<Target>().is_ok();
            let words = format!("{text} looks like a target; write {option} FILE TARGET");
            refuse_if(is_target, Failure::usage(words))?;
            let words = format!("{option} takes a file, and - is standard output");
            let tip = "give it a name; a file that is called - is written as ./-";
            let is_stdout = file == Path::new("-");
            refuse_if(is_stdout, Failure::usage(words).hint(tip))?;
            let same = files[..place]
                .iter()
                .find(|other| followed(other.1) == followed(file));
            if let Some((other, _)) = same {
                let words = format!("{other} and {option} would write the same file, {text}");
                let tip = "give each a file of its own";
                return Err(Failure::usage(words).hint(tip));
            }
        }
        self.output.slo.iter().try_for_each(|gate| {
            let why = never::why_never(gate, self);
            let words = |why| format!("--slo '{}' can't be met: {why}", gate.text);
            why.map_or(Ok(()), |why| Err(Failure::usage(words(why))))
        })
    }
}
