"""The match words: two words that stand in the notification and on the page, so that a person can tell which is which.

They are shown, never typed, and protect nothing by themselves. The list is our own: plain things, four to eight
letters, no two alike. Any two differ in at least three letters and in their first four, so that one is not taken for
the other on a small screen, over the phone, or half asleep (tests/test_words.py).
"""

from collections.abc import Callable

WORDS = tuple(
    """
    acorn acrobat alarm almond amber anchor angle apron artist atlas autumn badge baker balloon bamboo banana banjo
    barrel beacon bedroom beetle bicycle biscuit bishop blanket blossom bonfire boulder branch breeze brick bubble
    bucket buffalo burger button cabin cactus camel canoe captain carpet castle cherry chess chimney circle citrus
    clock clover cobweb coconut coffee copper coral cousin crayon crown crystal cushion daisy dancer desert diamond
    doctor dolphin domino donkey drawer drum duck earring echo elbow emerald engine evening fabric falcon family
    farmer feather fence fiddle finger fire flag flute forest fossil funnel galaxy garden garlic gate giraffe
    glacier glass globe gondola gravel guitar hammock harvest hazelnut helmet hill horse hotel hunter iceberg indigo
    insect island ivory jaguar jasmine jelly jewel jigsaw juice kayak kitchen kiwi koala ladder lagoon lamp lantern
    laptop leaf lemon leopard letter lilac lizard lobster lunch magnet mailbox maple meadow metal mirror mitten moon
    mosaic muffin museum mustard napkin nest nickel noodle nugget nutmeg oasis oatmeal ocean olive onion orange
    orbit orchard ostrich oxygen palace panda paprika parrot peach peanut pelican pencil penguin piano pickle picnic
    pigeon pillow pirate popcorn potato powder pumpkin puppet purple pyramid quail queen rabbit raccoon radio raft
    rainbow rhubarb ribbon river robot rope rubber ruby sailor salad saturn scarf school seaweed sheep shirt sister
    sleeve slipper snow sofa spider spinach statue stone sugar summer sunset swan sweater tadpole teapot temple
    tennis thumb toast tooth tractor train trumpet tugboat tulip unicorn valley vanilla village vinegar violet
    visitor volcano vulture waffle walnut whale wheat whisker window wolf wombat yogurt zebra zigzag
    """.split()  # noqa: SIM905 (256 quoted words are no better to read)
)


def match_words(random: Callable[[int], bytes]) -> tuple[str, str]:
    """Two of the 256 words, one for each of two random bytes; ``random(n)`` gives n random bytes."""
    first, second = random(2)
    return WORDS[first], WORDS[second]
