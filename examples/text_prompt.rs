//! Corals by their description: a segmenter that follows sentences, and the training of it.
//!
//! ```text
//! cargo run --release --example text_prompt
//! cargo run --release --example text_prompt -- --data reef --base vit_b_coralscop.pth --clip clip-vit-base-patch32 \
//!   --classes classes.csv --sentences sentences.txt --out out/text
//! cargo run --release --example text_prompt -- --prompter out/text/prompter.safetensors --clip clip-vit-base-patch32 \
//!   --image reef.jpg --text "a brown boulder with ridges" --point 120,80 --out out/asked
//! ```
//!
//! Without arguments it pre-trains a small network on synthetic reefs, teaches it the sentences of twenty species, five of each,
//! and prints how it answers sentences about reefs that it has not seen, before and after, and what it would be worth to answer
//! with all corals whatever is asked. CLIP's text encoder is stood in for by a bag of words there, unless `--clip` names one.
//! In the few minutes that this takes networks are still learning: `--pictures 1920 --pretraining-epochs 16 --epochs 24` takes
//! four to five times as long, and most answers are right.
//!
//! `--data` is a folder as `tune_coralscop` reads it, `--sentences` a file with a heading `[class]` above the sentences of each
//! class. What is unlabelled there is taken to show none of them.
//!
//! Writes `prompter.safetensors` and, in synthetic runs, the base (`base.safetensors`) and `asked_N.png`: a photograph, what a
//! sentence names in it, and what is found.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use coral_core::{
    AnnotatedImage, ClassSentences, ClassSet, Error, InstanceMask, PointPrompt, Result, RleMask, SeededRng,
    SentencePair, Size, TextEncoder,
};
use coral_examples::colony_survey::{
    BagOfWords, DescribedReefs, FolderArguments, Images, MIN_AREA, SyntheticSurvey, TextScores, class_picture,
    colonies, follow_sentences, pretrain, small_network, text_training,
};
use coral_examples::{at_least_one, finish, make_folder, numbers, open_clip};
use coral_io::{SyntheticReef, read_image, read_sentences, write_image, write_label_map};
use coral_models::candle_core::Device;
use coral_models::{
    Checkpoint, ClipEncoder, SamConfig, SentenceEmbeddings, TextAdapterConfig, TextFitConfig, TextPrompter,
    TextPrompterConfig,
};
use coral_weak::{SentencePairConfig, SentencePairs};

/// Finds corals by their description.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    folder: FolderArguments,
    /// A CLIP checkpoint (a file or folder), whose text encoder reads sentences.
    #[arg(long, value_name = "CLIP")]
    clip: Option<PathBuf>,
    /// CLIP's vocabulary, where it is not beside the checkpoint.
    #[arg(long, requires = "clip")]
    vocabulary: Option<PathBuf>,
    /// A file of sentences about classes.
    #[arg(long, value_name = "FILE", requires = "data")]
    sentences: Option<PathBuf>,
    /// Passes over the photographs. Default: 10, on synthetic reefs 12.
    #[arg(long)]
    epochs: Option<u64>,
    /// Synthetic reefs to train on; a twentieth as many are held out.
    #[arg(long, value_name = "NUMBER", conflicts_with_all = ["data", "prompter"], default_value_t = 960, value_parser = at_least_one)]
    pictures: usize,
    /// Passes of pre-training over the synthetic reefs.
    #[arg(long, value_name = "EPOCHS", conflicts_with_all = ["data", "prompter"], default_value_t = 6)]
    pretraining_epochs: u64,
    /// A trained prompter, to ask it about one photograph.
    #[arg(long, value_name = "FILE", requires_all = ["image", "text", "clip"], conflicts_with = "data")]
    prompter: Option<PathBuf>,
    /// The photograph.
    #[arg(long, requires = "prompter")]
    image: Option<PathBuf>,
    /// What to find in it.
    #[arg(long, value_name = "SENTENCE", requires = "prompter")]
    text: Option<String>,
    /// A pixel inside of it, `X,Y`; may be repeated.
    #[arg(long, value_name = "X,Y", requires = "prompter", value_parser = numbers::<2>)]
    point: Vec<[f32; 2]>,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder for results.
    #[arg(long, default_value = "out/text_prompt")]
    out: PathBuf,
}

fn main() -> ExitCode {
    finish(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String> {
    make_folder(&arguments.out)?;
    match (&arguments.prompter, &arguments.folder.data) {
        (Some(prompter), _) => ask(arguments, prompter, &needed_clip(arguments)?),
        (None, Some(_)) => learn_from_folder(arguments, &needed_clip(arguments)?),
        (None, None) => learn_from_synthetic_reefs(arguments),
    }
}

fn clip(arguments: &Arguments) -> Result<Option<ClipEncoder>> {
    arguments.clip.as_ref().map(|checkpoint| open_clip(checkpoint, arguments.vocabulary.as_deref())).transpose()
}

fn needed_clip(arguments: &Arguments) -> Result<ClipEncoder> {
    let missing =
        || Error::parameter("clip", "--clip is needed: a CLIP checkpoint, whose text encoder reads sentences");
    clip(arguments)?.ok_or_else(missing)
}

/// Answers one sentence about one photograph.
fn ask(arguments: &Arguments, prompter: &Path, encoder: &dyn TextEncoder) -> Result<String> {
    let (Some(image), Some(text)) = (&arguments.image, &arguments.text) else {
        return Err(Error::parameter("image", "--image and --text are needed"));
    };
    let prompter = TextPrompter::open(prompter, &Device::Cpu)?;
    let sentences = SentenceEmbeddings::new(encoder, [text.as_str()])?;
    let photo = read_image(image)?;
    let points = arguments.point.iter().map(|&[x, y]| PointPrompt { x, y, foreground: true }).collect::<Vec<_>>();
    let embedding = prompter.predictor()?.embed(&photo)?;
    let answer = prompter.predict(&embedding, sentences.get(text)?, &points)?;
    write_label_map(arguments.out.join("mask.png"), &answer.mask.mapv(u8::from))?;
    let pixels = answer.mask.iter().filter(|&&inside| inside).count();
    let share = 100.0 * pixels as f64 / answer.mask.len().max(1) as f64;
    Ok(format!(
        "\"{text}\": probability {:.2} that the photograph shows it; {share:.2} % of its pixels, predicted IoU {:.2}.\n\
         The mask is in {}/mask.png.\n",
        answer.presence,
        answer.predicted_iou,
        arguments.out.display()
    ))
}

fn learn_from_folder(arguments: &Arguments, encoder: &dyn TextEncoder) -> Result<String> {
    let (classes, images) = arguments.folder.open(false)?;
    let missing = || Error::parameter("sentences", "--sentences is needed: a file of sentences about classes");
    let sentences = read_sentences(arguments.sentences.as_ref().ok_or_else(missing)?, &classes)?;
    let [train, held_out] = arguments.folder.split(&images, arguments.seed)?;
    let (base, network) = arguments.folder.checkpoint()?;
    let learning = Learning {
        language: (classes, sentences),
        epochs: arguments.epochs.unwrap_or(10),
        min_area: arguments.folder.min_area,
        training: TextFitConfig::default(),
        adapter: TextAdapterConfig::default(),
        network,
    };
    let (_, report) = learning.run(arguments, (&base, encoder), [&train, &held_out])?;
    Ok(report)
}

/// What is learnt, and how.
struct Learning {
    /// All classes of masks, and sentences about some of them.
    language: (ClassSet, ClassSentences),
    network: SamConfig,
    /// From sentences to tokens; its `text_dim` is that of the text encoder, whatever it is here.
    adapter: TextAdapterConfig,
    training: TextFitConfig,
    epochs: u64,
    /// What is seen of a class on fewer pixels is neither there nor absent.
    min_area: u64,
}

/// The stream of random numbers of the sentences that are asked; those of epochs are smaller.
const ASKED: u64 = 1 << 32;

/// A network that follows sentences, and what it was taught with.
struct Learnt {
    prompter: TextPrompter,
    pairs: SentencePairs,
    sentences: SentenceEmbeddings,
}

impl Learning {
    fn run(
        self,
        arguments: &Arguments,
        (base, encoder): (&Checkpoint, &dyn TextEncoder),
        [train, held_out]: [Images<'_>; 2],
    ) -> Result<(Learnt, String)> {
        let (classes, language) = self.language;
        let texts: Vec<String> = language.iter().flat_map(|(_, sentences)| sentences.to_vec()).collect();
        let sentences = SentenceEmbeddings::new(encoder, texts.clone())?;
        let text_dim = texts.first().map_or(Ok(0), |text| sentences.get(text).map(<[f32]>::len))?;
        let pairs = SentencePairs::new(
            classes,
            language,
            SentencePairConfig { min_area: self.min_area, ..Default::default() },
        )?;
        let adapter = TextAdapterConfig { text_dim, ..self.adapter };
        let config = TextPrompterConfig::new(self.network, adapter, self.training);
        let mut prompter = TextPrompter::fine_tune(config, base, arguments.seed, &Device::Cpu)?;

        let seed = arguments.seed;
        let asked = SeededRng::stream(seed, ASKED).bits();
        let held_out = DescribedReefs::new(&prompter, held_out, &pairs)?;
        let of = |prompter: &TextPrompter| TextScores::of(prompter, &held_out, &sentences, asked);
        let (any, before) = (TextScores::of_all_objects(&held_out, asked)?, of(&prompter)?);
        let train = DescribedReefs::new(&prompter, train, &pairs)?;
        follow_sentences(&mut prompter, &train, &sentences, (self.epochs, seed))?;
        let after = of(&prompter)?;
        let path = arguments.out.join("prompter.safetensors");
        prompter.save(&path)?;
        let report = format!(
            "Sentences about {} photographs that were held out:\n  all objects, whatever is asked  {any}\n  \
             before                          {before}\n  after                           {after}\n\
             The network is in {}.\n",
            held_out.len(),
            path.display()
        );
        Ok((Learnt { prompter, pairs, sentences }, report))
    }
}

fn learn_from_synthetic_reefs(arguments: &Arguments) -> Result<String> {
    let (seed, clip) = (arguments.seed, clip(arguments)?);
    let survey = SyntheticSurvey::new(seed, arguments.pictures)?;
    let (species, to_species) = survey.level(3)?;
    let base_path = arguments.out.join("base.safetensors");
    let images = colonies(&survey.train, &to_species, (0.5, seed))?;
    pretrain(&images, &species, (arguments.pretraining_epochs, seed))?.save(&base_path)?;
    let base = Checkpoint::open(&base_path)?;

    let language = SyntheticReef::sentences();
    let bag = BagOfWords::new(language.iter().flat_map(|(_, sentences)| sentences).map(String::as_str));
    let epochs = arguments.epochs.unwrap_or(12);
    let learning = Learning {
        language: (survey.taxa.clone(), language),
        epochs,
        training: text_training(epochs * arguments.pictures as u64),
        adapter: TextAdapterConfig { hidden: 64, tokens: 2, ..TextAdapterConfig::default() },
        network: small_network(),
        min_area: MIN_AREA,
    };
    let encoder: &dyn TextEncoder = clip.as_ref().map_or(&bag, |clip| clip);
    let (learnt, report) = learning.run(arguments, (&base, encoder), [&survey.train, &survey.held_out])?;
    let asked = write_pictures(arguments, &learnt, (&survey.held_out, &survey.taxa))?;
    Ok(format!("{report}\nPictures: the photograph, what the sentence names in it, what is found.\n{asked}"))
}

/// Pictures of answers; gives a line for each.
fn write_pictures(arguments: &Arguments, learnt: &Learnt, (images, taxa): (Images<'_>, &ClassSet)) -> Result<String> {
    const PICTURES: usize = 4;
    let predictor = learnt.prompter.predictor()?;
    let mut lines = String::new();
    for index in 0..images.len().min(PICTURES) {
        let AnnotatedImage { image, masks } = images.get(index)?;
        let pairs = learnt.pairs.draw(Size::of(&image), &masks, arguments.seed)?;
        // A sentence about what is there, in the last picture one about what is not.
        let is_asked = |pair: &&SentencePair| pair.is_positive() == (index + 1 < PICTURES);
        let Some(SentencePair { sentence, class, mask }) = pairs.iter().find(is_asked) else { continue };
        let embedding = predictor.embed(&image)?;
        let answer = learnt.prompter.predict(&embedding, learnt.sentences.get(sentence)?, &[])?;
        let of_class = |mask: RleMask| [InstanceMask { class: Some(*class), ..InstanceMask::new(mask) }];
        let (truth, found) = (of_class(mask.clone()), of_class(RleMask::encode(&answer.mask)));
        let path = arguments.out.join(format!("asked_{}.png", index + 1));
        write_image(&path, &class_picture(&image, [&truth, &found], taxa)?)?;
        lines += &format!("  {}: \"{sentence}\", probability {:.2}\n", path.display(), answer.presence);
    }
    Ok(lines)
}

#[cfg(test)]
#[path = "tests/text_prompt.rs"]
mod tests;
