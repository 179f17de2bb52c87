//! The vocabulary of the synthetic catalogue: what a text can say about an item.

/// Things sold. The process makes each of them lead to others, see [`super::synth`].
pub(super) const KINDS: [&str; 24] = [
    "lamp", "chair", "table", "shelf", "rug", "curtain", "vase", "bowl", "kettle", "teapot", "cup", "plate",
    "knife", "board", "apron", "blanket", "pillow", "basket", "mirror", "clock", "candle", "frame", "stool",
    "desk",
];

/// Material families and the words for them; a text names the word, taste goes by the family.
pub(super) const MATERIALS: [[&str; 3]; 6] = [
    ["oak", "walnut", "birch"],
    ["brass", "copper", "steel"],
    ["linen", "wool", "cotton"],
    ["clay", "porcelain", "stoneware"],
    ["rattan", "willow", "bamboo"],
    ["marble", "granite", "slate"],
];

/// Moods and the words for them; a text names one word, taste goes by the mood.
pub(super) const MOODS: [[&str; 3]; 8] = [
    ["calm", "quiet", "serene"],
    ["playful", "cheerful", "lively"],
    ["rustic", "rough", "weathered"],
    ["modern", "sleek", "minimal"],
    ["ornate", "lavish", "baroque"],
    ["nordic", "pale", "airy"],
    ["dark", "brooding", "smoky"],
    ["sunny", "warm", "golden"],
];

/// Makers.
pub(super) const MAKERS: [&str; 20] = [
    "Norvik",
    "Calder",
    "Ashby",
    "Tamura",
    "Velasco",
    "Brandt",
    "Okoye",
    "Linden",
    "Marchetti",
    "Sorensen",
    "Haddad",
    "Pereira",
    "Kowalski",
    "Dumont",
    "Iyer",
    "Rowan",
    "Esposito",
    "Falk",
    "Nakano",
    "Quill",
];

/// Where a thing belongs.
pub(super) const PLACES: [&str; 6] = ["kitchen", "bedroom", "garden", "study", "hallway", "bathroom"];

/// Sentences that a text is made of; each names every attribute once.
pub(super) const SENTENCES: [&str; 5] = [
    "{mood} {material} {kind} by {maker} for the {place}",
    "{kind} of {material} from {maker}, {mood}, made for the {place}",
    "{maker} {place} {kind} in {mood} {material}",
    "a {mood} {kind} for the {place}, made of {material} by {maker}",
    "{material} {kind} with a {mood} look, {maker}, suits the {place}",
];
