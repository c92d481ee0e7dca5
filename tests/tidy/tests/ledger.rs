//! The ledger is complete.

use dunlin_tidy::spec::Ledger;
use dunlin_tidy::tree::Tree;
use dunlin_tidy::workspace_root;

#[test]
fn the_ledger_has_every_numbered_statement() {
    let tree = Tree::load(&workspace_root()).unwrap();
    let ledger = Ledger::of(&tree);
    let of = |prefix: &str| ledger.rows().filter(|row| row.id.starts_with(prefix)).count();
    assert_eq!(of("MQTT311-"), 141);
    assert_eq!(of("MQTT5-"), 251);
}

#[test]
fn every_tag_and_exception_names_a_statement() {
    let tree = Tree::load(&workspace_root()).unwrap();
    let problems = dunlin_tidy::spec::check(&Ledger::of(&tree), false);
    assert_eq!(problems, []);
}
