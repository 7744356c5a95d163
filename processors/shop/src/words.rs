//! The words that made-up products are made of.

/// How it is.
pub(crate) const ADJECTIVES: &[&str] = &[
    "Antique", "Bright", "Classic", "Compact", "Cosy", "Elegant", "Folding", "Handmade", "Heavy", "Light", "Little",
    "Modern", "Plain", "Quiet", "Round", "Rustic", "Slim", "Smart", "Soft", "Sturdy", "Tall", "Travel", "Vintage",
    "Wide",
];

/// What it is made of.
pub(crate) const MATERIALS: &[&str] = &[
    "bamboo", "brass", "ceramic", "copper", "cotton", "glass", "leather", "linen", "marble", "oak", "paper", "pine",
    "steel", "stone", "walnut", "wool",
];

/// What it is, and where it is found in the shop.
pub(crate) const THINGS: &[(&str, &str)] = &[
    ("desk lamp", "lighting"),
    ("floor lamp", "lighting"),
    ("table lamp", "lighting"),
    ("lampshade", "lighting"),
    ("lantern", "lighting"),
    ("desk", "furniture"),
    ("chair", "furniture"),
    ("bookshelf", "furniture"),
    ("side table", "furniture"),
    ("stool", "furniture"),
    ("mug", "kitchen"),
    ("teapot", "kitchen"),
    ("bread knife", "kitchen"),
    ("salad bowl", "kitchen"),
    ("kettle", "kitchen"),
    ("blanket", "home"),
    ("cushion", "home"),
    ("mirror", "home"),
    ("vase", "home"),
    ("wall clock", "home"),
    ("headphones", "electronics"),
    ("radio", "electronics"),
    ("speaker", "electronics"),
    ("alarm clock", "electronics"),
    ("backpack", "travel"),
    ("umbrella", "travel"),
    ("water bottle", "travel"),
    ("wallet", "travel"),
    ("notebook", "office"),
    ("pen holder", "office"),
];

/// Who makes it.
pub(crate) const BRANDS: &[&str] =
    &["Alder & Sons", "Bluebird", "Fjordline", "Halcyon", "Kestrel", "Lumen Works", "Northway", "Oakfield", "Tern"];

/// What is said of it.
pub(crate) const TAGS: &[&str] = &[
    "bestseller",
    "durable",
    "gift",
    "limited",
    "new",
    "on sale",
    "recycled",
    "repairable",
    "seasonal",
    "small batch",
];
