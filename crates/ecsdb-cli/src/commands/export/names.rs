//! What columns are called: no two by one name, in whichever way a reader takes names.

use std::collections::{HashMap, HashSet};

use serde_json::{Value as Json, json};

use super::columns::Column;

/// A column with another name than what it is of, since that is taken.
pub(super) struct Renamed {
    pub(super) component: String,
    /// Of the component, if it is one of its fields.
    pub(super) field: Option<String>,
    /// With a dot between a column and each of those in it.
    pub(super) column: String,
}

impl Renamed {
    pub(super) fn json(&self) -> Json {
        json!({ "component": self.component, "field": self.field, "column": self.column })
    }
}

/// Names of columns, and of those in them: readers ask for these with dots, which names of components have, too, and some do not tell cases.
#[derive(Default)]
pub(super) struct Names {
    taken: HashSet<String>,
    /// The number that is tried next where a name is taken.
    next: HashMap<String, usize>,
    pub(super) renamed: Vec<Renamed>,
}

/// A column, while it gets its name.
struct Of<'a> {
    component: &'a str,
    field: Option<String>,
    /// Of the column around it, with a dot.
    within: String,
}

impl Names {
    /// The name for the column of no component.
    pub(super) fn take(&mut self, name: &str) {
        self.taken.insert(folded(name));
    }

    /// The name for the column of a component, whose fields get theirs.
    pub(super) fn of_component(&mut self, component: &str, column: Option<&mut Column>) -> String {
        let of = Of { component, field: None, within: String::new() };
        self.name(of, component, column)
    }

    fn name(&mut self, of: Of<'_>, wanted: &str, column: Option<&mut Column>) -> String {
        let (ends, fields) = column.map_or_else(|| (vec![String::new()], None), Column::ends);
        let base = format!("{}{wanted}", of.within);
        let next = self.next.entry(folded(&base)).or_insert(1);
        let name = loop {
            let name = if *next == 1 { wanted.into() } else { format!("{wanted}_{next}") };
            *next += 1;
            let path = |end: &String| folded(&format!("{}{name}{end}", of.within));
            if !ends.iter().any(|end| self.taken.contains(&path(end))) {
                self.taken.extend(ends.iter().map(path));
                break name;
            }
        };
        let column = format!("{}{name}", of.within);
        if let Some(fields) = fields {
            let end = ends.last().map_or("", String::as_str);
            for (name, _, inside) in fields {
                let field =
                    of.field.as_ref().map_or_else(|| name.clone(), |around| format!("{around}.{name}"));
                let within = format!("{column}{end}.");
                let of = Of { component: of.component, field: Some(field), within };
                *name = self.name(of, &name.clone(), Some(inside));
            }
        }
        if name != wanted {
            self.renamed.push(Renamed { component: of.component.into(), field: of.field, column });
        }
        name
    }
}

fn folded(name: &str) -> String {
    name.to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema};
    use ecsdb_core::describe::Description;
    use parquet::arrow::ArrowWriter;
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    const NAMES: [&str; 10] =
        ["a", "A", "b", "a.b", "a_2", "list", "item", "a.list", "a.list.item", "entity"];

    /// Adds the bytes of a type, and of those in it.
    fn add(random: &mut fastrand::Rng, depth: usize, types: &mut Vec<Vec<u8>>) -> u8 {
        let own = types.len();
        types.push(Vec::new());
        let shape = match random.u32(..if depth < 3 { 5 } else { 1 }) {
            0 => vec![0, 4],
            1 => vec![4, add(random, depth + 1, types)],
            2 => vec![8, add(random, depth + 1, types)],
            _ => {
                let fields = random.u8(2..5);
                let mut shape = vec![1, fields];
                for _ in 0..fields {
                    let name = NAMES[random.usize(..NAMES.len())];
                    shape.push(name.len() as u8);
                    shape.extend(name.bytes());
                    shape.extend([0, add(random, depth + 1, types)]);
                }
                shape
            }
        };
        types[own] = [vec![0, 0], shape].concat();
        own as u8
    }

    /// The paths of all columns, with those that only have others in them, as they are written with dots.
    fn paths(within: &str, name: &str, column: &mut Column, out: &mut Vec<String>) {
        let (ends, fields) = column.ends();
        out.extend(ends.iter().map(|end| format!("{within}{name}{end}").to_lowercase()));
        let within = format!("{within}{name}{}.", ends.last().unwrap());
        for (name, _, column) in fields.into_iter().flatten() {
            paths(&within, &name.clone(), column, out);
        }
    }

    fn are_distinct(paths: &[String]) -> bool {
        paths.iter().collect::<BTreeSet<_>>().len() == paths.len()
    }

    #[test]
    fn no_two_columns_of_a_file_have_one_name() {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut renamed, mut kept) = (0, 0);
        for case in 0..500 {
            let components: BTreeSet<&str> =
                (0..random.usize(1..5)).map(|_| NAMES[random.usize(..NAMES.len())]).collect();
            let mut columns: Vec<(&str, Column)> = components
                .into_iter()
                .map(|name| {
                    let mut types = Vec::new();
                    add(&mut random, 1, &mut types);
                    let bytes = [vec![0x82, types.len() as u8], types.concat()].concat();
                    (name, Column::of(&Description::from_bytes(&bytes).unwrap()))
                })
                .collect();
            let mut wanted = vec!["entity".to_string()];
            columns.iter_mut().for_each(|(name, column)| paths("", name, column, &mut wanted));
            let mut names = Names::default();
            names.take("entity");
            let mut fields = vec![Field::new("entity", DataType::Utf8, false)];
            for (component, column) in &mut columns {
                let name = names.of_component(component, Some(&mut *column));
                fields.push(Field::new(name, column.data_type(), true));
            }
            let context = format!("seed {seed}, case {case}: {fields:?}");
            assert_eq!(names.renamed.is_empty(), are_distinct(&wanted), "{context}");
            // As the file has them.
            let file = tempfile::tempfile().unwrap();
            let schema = Arc::new(Schema::new(fields));
            ArrowWriter::try_new(file.try_clone().unwrap(), schema, None).unwrap().close().unwrap();
            let read = SerializedFileReader::new(file).unwrap();
            let columns = read.metadata().file_metadata().schema_descr().columns().to_vec();
            let found: Vec<String> =
                columns.iter().map(|column| column.path().string().to_lowercase()).collect();
            assert!(are_distinct(&found), "{context}: {found:?}");
            // What is said of those with other names is in the file.
            for one in &names.renamed {
                let column = one.column.to_lowercase();
                let within = format!("{column}.");
                assert!(
                    found.iter().any(|path| *path == column || path.starts_with(&within)),
                    "{context}: {column}"
                );
            }
            renamed += usize::from(!names.renamed.is_empty());
            kept += usize::from(names.renamed.is_empty());
        }
        assert!(renamed > 50 && kept > 50, "seed {seed}: {renamed} {kept}");
    }
}
