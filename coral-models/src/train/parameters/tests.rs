use super::*;
use candle_nn::Init;
use std::collections::HashMap;

const CPU: Device = Device::Cpu;

/// A convolution, batch normalisation and a head.
fn network(classes: usize) -> impl Fn(VarBuilder<'_>) -> candle_core::Result<Vec<Tensor>> {
    move |vb| {
        let bn = vb.pp("bn");
        Ok(vec![
            vb.get_with_hints((4, 3, 3, 3), "conv.weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?,
            bn.get_with_hints(4, "weight", Init::Const(1.0))?,
            bn.get(4, "running_mean")?,
            bn.get_with_hints(4, "running_var", Init::Const(1.0))?,
            vb.pp("fc").get_with_hints((classes, 4), "weight", Init::Randn { mean: 0.0, stdev: 0.1 })?,
        ])
    }
}

fn values(parameters: &Parameters, name: &str) -> Vec<f32> {
    parameters.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn names_alone_decide_the_initial_values() {
    let (a, tensors) = Parameters::create(1, &CPU, network(3)).unwrap();
    let turned = |vb: VarBuilder<'_>| {
        let head = vb.get_with_hints((3, 4), "fc.weight", Init::Randn { mean: 0.0, stdev: 0.1 })?;
        Ok((head, vb.get_with_hints((4, 3, 3, 3), "conv.weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?))
    };
    let (b, _) = Parameters::create(1, &CPU, turned).unwrap();
    for name in ["fc.weight", "conv.weight"] {
        assert_eq!(values(&a, name), values(&b, name));
    }
    assert_eq!(values(&a, "bn.weight"), [1.0; 4]);
    assert!(tensors.iter().all(Tensor::is_variable));
    let (c, _) = Parameters::create(2, &CPU, network(3)).unwrap();
    assert_ne!(values(&a, "conv.weight"), values(&c, "conv.weight"));
}

#[test]
fn weights_buffers_and_frozen_ones_are_told_apart() {
    let (mut parameters, _) = Parameters::create(1, &CPU, network(3)).unwrap();
    let names = |p: &Parameters| p.trainable().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&parameters), ["bn.weight", "conv.weight", "fc.weight"]);
    assert_eq!(parameters.buffers().map(|(n, _)| n).collect::<Vec<_>>(), ["bn.running_mean", "bn.running_var"]);
    // Buffers are not counted: nothing changes for them.
    assert_eq!(parameters.freeze(|name| !name.starts_with("fc.")), 2);
    assert_eq!(names(&parameters), ["fc.weight"]);
    let built = parameters.build(network(3)).unwrap();
    assert_eq!(built.iter().map(Tensor::is_variable).collect::<Vec<_>>(), [false, false, true, true, true]);
    assert_eq!(parameters.unfreeze(|name| name == "bn.weight"), 1);
    assert_eq!(names(&parameters), ["bn.weight", "fc.weight"]);
    assert!(parameters.is_frozen("conv.weight") && parameters.frozen().count() == 1);
    assert_eq!(parameters.freeze(|name| name == "typo"), 0);
}

#[test]
fn detached_networks_share_the_memory() {
    let (parameters, _) = Parameters::create(1, &CPU, network(3)).unwrap();
    let detached = parameters.detached(network(3)).unwrap();
    assert!(!detached.iter().any(Tensor::track_op));
    parameters.get("bn.running_mean").unwrap().set(&Tensor::new(&[1f32, 2.0, 3.0, 4.0], &CPU).unwrap()).unwrap();
    assert_eq!(detached[2].to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let text = parameters.detached(network(4)).unwrap_err().to_string();
    assert!(text.contains("`fc.weight` is [3, 4] where the network asks for [4, 4]"), "{text}");
    let text = parameters.detached(|vb| vb.get(3, "fc.bias")).unwrap_err().to_string();
    assert!(text.contains("no `fc.bias`"), "{text}");
}

#[test]
fn conversion_copies() {
    let (mut parameters, _) = Parameters::create(1, &CPU, network(3)).unwrap();
    parameters.freeze(|name| name.starts_with("conv"));
    let (double, built) = parameters.converted(DType::F64, network(3)).unwrap();
    assert!(double.dtype() == DType::F64 && built.iter().all(|t| t.dtype() == DType::F64));
    assert!(double.is_frozen("conv.weight") && !built[0].track_op() && built[1].track_op());
    double.get("bn.weight").unwrap().set(&Tensor::zeros(4, DType::F64, &CPU).unwrap()).unwrap();
    assert_eq!(values(&parameters, "bn.weight"), [1.0; 4]);
}

#[test]
fn saved_weights_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let (saved, _) = Parameters::create(1, &CPU, network(3)).unwrap();
    saved.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.metadata()["format"], "pt");
    let (loaded, tensors) = Parameters::load(&checkpoint, &CPU, &[], network(3)).unwrap();
    assert!(tensors.iter().all(Tensor::is_variable));
    for name in saved.names() {
        assert_eq!(values(&loaded, name), values(&saved, name));
    }
    assert!(saved.save(folder.path().join("net.bin")).unwrap_err().to_string().contains(".safetensors"));
}

#[test]
fn misfits_are_the_errors_of_load() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    Parameters::create(1, &CPU, network(3)).unwrap().0.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let error = Parameters::load(&checkpoint, &CPU, &[], network(5)).unwrap_err();
    assert!(matches!(&error, Error::Weights { mismatched, .. } if mismatched.len() == 1), "{error}");
    let fresh = |prefixes| Fresh { prefixes, seed: 4, ignore: &[] };
    let (partly, _) = Parameters::load_partly(&checkpoint, &CPU, fresh(&["fc."]), network(5)).unwrap();
    let (created, _) = Parameters::create(4, &CPU, network(5)).unwrap();
    assert_eq!(values(&partly, "fc.weight"), values(&created, "fc.weight"));
    assert_ne!(values(&partly, "conv.weight"), values(&created, "conv.weight"));
    for (prefixes, text) in [(&["fc.", "head."][..], "`head.…`"), (&["fc.", ""], "use `create`")] {
        let error = Parameters::load_partly(&checkpoint, &CPU, fresh(prefixes), network(5)).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    // The other weights are as strict as ever.
    let lacking: HashMap<_, _> = [("conv.weight", Tensor::zeros((4, 3, 3, 3), DType::F32, &CPU).unwrap())].into();
    candle_core::safetensors::save(&lacking, &path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let error = Parameters::load_partly(&checkpoint, &CPU, fresh(&["fc."]), network(5)).unwrap_err();
    assert!(matches!(&error, Error::Weights { missing, .. } if missing.len() == 3), "{error}");
}

#[test]
fn tied_weights_are_one_variable() {
    let tied = |vb: VarBuilder<'_>| Ok((vb.get((2, 3), "a")?, vb.get((2, 3), "a")?));
    let (parameters, (a, b)) = Parameters::create(1, &CPU, tied).unwrap();
    assert!(a.id() == b.id() && parameters.names().len() == 1);
    assert!(Parameters::create(1, &CPU, |vb| Ok((vb.get((2, 3), "a")?, vb.get((3, 2), "a")?))).is_err());
}

#[test]
fn networks_may_be_called_as_wrappers_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.safetensors");
    let build = |vb: VarBuilder<'_>| network(3)(vb.pp("model"));
    let (saved, _) = Parameters::create(1, &CPU, build).unwrap();
    saved.save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let (loaded, _) = Parameters::load(&checkpoint, &CPU, &[], build).unwrap();
    assert_eq!(values(&loaded, "model.conv.weight"), values(&saved, "model.conv.weight"));
    // Also after another program's rewriting into our form.
    checkpoint.save_safetensors(&path).unwrap();
    assert!(Checkpoint::open(&path).unwrap().contains("model.conv.weight"));
}
