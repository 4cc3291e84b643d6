//! The words of short codes.
//!
//! There are 512 in alphabetical order, so a word is nine bits. The first four letters identify each word and suffice to
//! complete it. No single wrong, missing, doubled or swapped letter turns one into another, so such a slip is detected.

/// All words, separated by spaces.
const TEXT: &str = "\
acorn actor agate alarm album almond alpine amber anchor ankle antler apple apron arbor arcade arctic arrow \
artist ashen atlas attic autumn avocado awning badge bagel baker balcony ballad bamboo banana banjo banner \
barley barrel basil basket beacon beetle bench berry bicycle biscuit bishop blanket blossom bluebird bonnet \
border boulder bouquet bracelet branch bread breeze brick bronze brook bubble bucket buffalo burrow butter cabin \
cactus candle canoe canvas canyon caramel cardinal carpet carrot cashew castle cavern cedar cello cement chalk \
chapel cherry chess chimney chisel cinnamon circle citron clarinet clever cliff cobalt cobbler coconut coffee \
comet copper coral corner cottage cougar cradle crane crayon cricket crimson crystal cuckoo cucumber curtain \
cushion cypress daisy dancer dawn denim desert dinner dolphin domino donkey dragon drawer dream drummer duckling \
dune dusk dwarf eagle echo eclipse elbow elder emerald emperor engine envoy ermine evening fabric farmer feather \
fennel fern fiddle finch firefly flamingo flannel flask fleece flint flower flute forest fossil fountain freckle \
frost fudge furnace gable galaxy gallon garden garlic garnet gazelle geyser giant ginger giraffe glacier glider \
globe goblet goldfish gondola goose granite grape gravel guitar gully gypsum habit hamster harmony harp harvest \
hazel hedge helium helmet heron hickory hiker hollow hoof horizon hornet hotel hunter husky hyacinth iceberg \
icicle indigo inkwell inlet iris iron jackal jaguar jasmine jelly jersey jewel jigsaw jockey journal jubilee \
juggler jungle juniper kayak kernel kettle keyhole kitchen kite kitten kiwi knight knot koala lacquer ladder \
lagoon lantern larch lasso lattice laurel lavender lemon lemur leopard library lilac linen lion lizard llama \
lobster locket lotus lumber lunar lynx magenta magnet magpie mallard mammoth mango maple marble marigold market \
marmot marsh meadow melody mentor mercury merlin meteor midnight mildew minnow mint mocha monsoon morning mosaic \
moth muffin mulberry mushroom musket mustard myrtle napkin nectar needle nephew nickel nimbus noodle north \
nugget oasis oatmeal oboe ocean office olive onion onyx opal orange orbit orchard oriole osprey ostrich otter \
outpost oven oxygen oyster paddle pagoda palace palm panda panther papaya paper paprika parade parsley pasture \
peach peanut pebble pelican pencil penguin petal piano pickle pigeon pillow pilot pine pioneer pirate planet \
plaza plum poet pollen pond poplar poppy portrait potato prairie prism pumpkin puppet puzzle pyramid quarry \
queen quiet quince quiver rabbit raccoon radar radish raft rainbow raisin raven reef reindeer ribbon robin rodeo \
rooster rosemary rowan ruby rustic saffron sailor salmon sandal sapling sapphire satchel sauna scallop scarf \
school scooter seagull season seed shadow shelter shepherd shovel shrimp signal sketch sleigh slipper smoke \
snail sparrow spice spider spinach spiral spoon spruce squid stable stallion starfish statue steam steeple stork \
summer sundial sunset swallow swan sweater sycamore syrup talon tartan teapot temple terrace thicket thimble \
thistle thunder tiger timber tomato topaz torch tornado toucan tower trail treasure trumpet tulip tundra tunnel \
turban turnip turtle tweed twilight twine umbrella unicorn upland urchin usher vacuum valley vanilla velvet \
verbena village violet vista volcano voyage vulture waffle wagon walnut walrus waltz warbler water whale wheat \
whisker wicker widget window winter wombat wool wren yacht yellow yodel yogurt yonder zebra zenith zephyr zinc \
zinnia zipper zither";

/// Names of the positions of words in a code, for messages.
pub const PLACES: [&str; 4] = ["first", "second", "third", "fourth"];

/// Number of words in the list.
pub const COUNT: usize = 512;

/// Returns the word with this number.
pub(super) fn word(number: u16) -> Option<&'static str> {
    words().nth(number.into())
}

/// Returns the number of a word. Case does not matter.
pub(super) fn number(word: &str) -> Option<u16> {
    let at = words().position(|known| known.eq_ignore_ascii_case(word))?;
    u16::try_from(at).ok()
}

/// Returns the words that start with `text`, or, if there are none, those that differ from it by one slip.
pub fn like(text: &str) -> Vec<&'static str> {
    let text = text.to_ascii_lowercase();
    let begins: Vec<_> = words().filter(|word| word.starts_with(&text)).collect();
    if begins.is_empty() {
        words().filter(|word| is_one_slip(word, &text)).collect()
    } else {
        begins
    }
}

fn words() -> impl Iterator<Item = &'static str> {
    TEXT.split(' ')
}

/// True if two texts differ by one wrong, missing or extra letter, or by two adjacent letters that are swapped.
fn is_one_slip(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let pairs = long.iter().zip(short);
    let same = pairs.take_while(|(one, other)| one == other).count();
    let (Some(long), Some(short)) = (long.get(same..), short.get(same..)) else {
        return false;
    };
    match (long, short) {
        ([_, rest @ ..], short) if long.len() == short.len() + 1 => rest == short,
        ([one, two, rest @ ..], [other, another, others @ ..])
            if (one, two) == (another, other) =>
        {
            rest == others
        }
        ([_, rest @ ..], [_, others @ ..]) => rest == others,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_keeps_its_promises() {
        let all: Vec<_> = words().collect();
        assert_eq!(all.len(), COUNT);
        assert!(all.is_sorted());
        assert!(all.iter().all(|word| (4..=8).contains(&word.len())));
        assert!(
            all.iter()
                .all(|word| word.bytes().all(|c| c.is_ascii_lowercase()))
        );
        let begins: BTreeSet<_> = all.iter().map(|word| &word[..4]).collect();
        assert_eq!(begins.len(), COUNT);
        for (at, a) in all.iter().enumerate() {
            let near = all.iter().skip(at + 1).find(|b| is_one_slip(a, b));
            assert_eq!(near, None, "{a}");
        }
    }

    #[test]
    fn words_have_numbers_and_numbers_have_words() {
        for at in 0..512 {
            assert_eq!(word(at).and_then(number), Some(at));
        }
        assert_eq!(word(512), None);
        assert_eq!(number("AMBER"), number("amber"));
        assert_eq!(number("ambre"), None);
    }

    #[test]
    fn beginnings_are_completed_and_slips_are_seen() {
        assert_eq!(like("ambe"), ["amber"]);
        for slip in ["ambre", "amver", "ambber", "aber", "AMBEER"] {
            assert_eq!(like(slip), ["amber"], "{slip}");
        }
        assert_eq!(like("xylophon"), [] as [&str; 0]);
        assert_eq!(like("").len(), COUNT);
    }
}
