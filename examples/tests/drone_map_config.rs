use std::fs;

use coral_examples::drone_survey::SurveyConfig;

#[test]
fn a_short_file_has_the_published_values() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("survey.toml");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        SurveyConfig::read(&path)
    };
    let short = "classes = ['Coral', 'Sand']\northophoto = 'reef.tif'\n\
        [[sessions]]\nname = 'boat'\npositions = 'frames.csv'\npredictions = 'scores.csv'\n\
        [evaluation]\nzones = 'zones.geojson'\ntruth = 'truth.tif'\n";
    let config = read(short).unwrap();
    assert_eq!(config.orthophoto, folder.path().join("reef.tif"));
    let json = serde_json::to_value(&config).unwrap();
    let published = [
        ("/coarse/raster/method", r#""linear""#),
        ("/coarse/raster/cell", "null"),
        ("/coarse/quantiles", "[0.01,0.99]"),
        ("/tiles/tile", r#"{"height":512,"width":512}"#),
        ("/tiles/max_unlabeled", "0.0"),
        ("/tiles/max_black", "0.05"),
        ("/tiles/max_white", "0.1"),
        ("/tiles/inside_hull", "true"),
        ("/training/network", r#""mit-b0""#),
        ("/training/epochs", "100"),
        ("/training/validation", "0.3"),
        ("/training/fit/batch", "16"),
        ("/training/fit/trainer/learning_rate", "1e-5"),
        ("/training/fit/loss/cross_entropy_weight", "0.0"),
        ("/map/tile", r#"{"height":512,"width":512}"#),
        ("/map/stride", r#"{"height":256,"width":256}"#),
        ("/refinement/classes", r#"["Sand"]"#),
        ("/refinement/refiner/iterations", "5"),
        ("/refinement/min_predicted_iou", "null"),
        ("/evaluation/buffer_m", "2.0"),
        ("/evaluation/published_means", "false"),
    ];
    for (place, value) in published {
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        assert_eq!(json.pointer(place), Some(&value), "{place}");
    }
    let fit = serde_json::to_string(&config.training.fit).unwrap();
    for part in [
        r#""factor":0.1"#,
        r#""weight_decay":0.01"#,
        r#""patience":5"#,
        r#""patience":10"#,
        r#""monitor":"validation""#,
    ] {
        assert!(fit.contains(part), "{part} in {fit}");
    }
    assert!(!config.second_tiles().inside_hull);
    // What is written is read again.
    let text = config.to_toml().unwrap();
    assert_eq!(read(&text).unwrap(), config);
    let custom = format!("{short}[training.network]\ndepths = [1, 1, 1, 1]\n");
    let custom = read(&custom).unwrap();
    assert_eq!(read(&custom.to_toml().unwrap()).unwrap(), custom);

    let fail = |text: String| read(&text).unwrap_err().to_string();
    let text = fail(format!("{short}[map]\ntiles = 4\n"));
    assert!(text.contains("survey.toml:11: ") && text.contains("`tiles`"), "{text}");
    let text = fail(format!("sed = 1\n{short}"));
    assert!(text.contains("survey.toml:1: ") && text.contains("`sed`"), "{text}");
    let text = fail(format!("{short}[training.network]\ndepth = [1, 1, 1, 1]\n"));
    assert!(text.contains("`depth`"), "{text}");
    for (more, field) in [
        ("[training]\nvalidation = 1.0\n", "training.validation"),
        ("[training]\nepochs = 0\n", "training.epochs"),
        ("[training]\nnetwork = 'mit-b9'\n", "training.network"),
        ("[coarse]\nquantiles = [0.9, 0.1]\n", "coarse.quantiles"),
        ("[refinement]\nclasses = ['Mud']\n", "Mud"),
        ("[map]\ntiles_in_flight = 0\n", "tiles_in_flight"),
        ("[[sessions]]\nname = 'boat'\npositions = 'a.csv'\npredictions = 'b.csv'\n", "sessions.name"),
        ("[[sessions]]\nname = 'ship'\npositions = 'a.csv'\n", "session `ship` needs `predictions`"),
    ] {
        let text = fail(format!("{short}{more}"));
        assert!(text.contains(field), "{field}: {text}");
    }
    assert!(fail(short.replace(", 'Sand'", "")).contains("`classes`: expected 2 to 254"));
    assert!(SurveyConfig::read(folder.path().join("gone.toml")).unwrap_err().to_string().contains("gone.toml"));
}
