//! The demo does what it tells: three real sites, and every command ends as the story says.

use crate::world::Person;

#[test]
fn the_demo_tells_its_story_and_leaves_nothing_behind() {
    let person = Person::new();
    let told = person.run(["demo", "--json"]).json();
    let steps = told["steps"].as_array().unwrap();
    let typed = |words: &str| {
        let said = |step: &&serde_json::Value| step["command"].as_str().unwrap().starts_with(words);
        steps.iter().filter(said).count()
    };
    assert_eq!(typed("waag charter adopt"), 4);
    assert_eq!(typed("waag mirror run"), 5);
    assert_eq!(
        typed("waag withdraw 'neckar/tiny:1.0'") + typed("waag withdraw neckar/tiny:1.0"),
        1
    );
    assert!(told.get("kept").is_none());

    // A directory that is there already belongs to somebody.
    let answer = person.run(["demo", "--keep", person.desk().to_str().unwrap()]);
    assert_eq!(answer.code(), 1);
}
