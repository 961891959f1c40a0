"""Short simple stories combined from hand-written plots, each with a matching request."""

from __future__ import annotations

import random

HEROES = {
    "cat": "Mimi", "dog": "Rex", "rabbit": "Hop", "mouse": "Pip", "bear": "Bruno", "fox": "Rusty", "duck": "Dilly", "frog": "Fred",
    "owl": "Ollie", "horse": "Star", "elephant": "Ella", "hedgehog": "Spike", "squirrel": "Nutty", "bird": "Tilly", "turtle": "Tom",
    "lion": "Leo", "penguin": "Penny", "sheep": "Wooly", "pig": "Rosie", "goat": "Greta", "boy": "Ben", "girl": "Lucy", "robot": "Bolt",
    "dragon": "Ember", "snail": "Sid", "bee": "Bella", "farmer": "Mr. Hill", "baker": "Mrs. Crumb", "king": "Otto", "queen": "Mara",
}  # fmt: skip
PLACES = ["near a small river", "in a green forest", "on a quiet farm", "in a little town", "by the sea", "at the foot of a hill",
          "in an old garden", "behind a red house", "near a big lake", "at the edge of a meadow"]  # fmt: skip
TRAITS = [
    "kind",
    "curious",
    "shy",
    "cheerful",
    "clever",
    "brave",
    "quiet",
    "lazy",
    "friendly",
    "careful",
    "hungry",
    "proud",
]
THINGS = ["red ball", "silver bell", "blue kite", "small drum", "yellow hat", "wooden boat", "warm scarf", "shiny key", "picture book",
          "golden coin", "paper star", "green cup", "little lamp", "tin whistle"]  # fmt: skip
HELPERS = ["an old owl", "a small bird", "a friendly dog", "a wise turtle", "a little girl", "a busy bee", "a tall man with a lantern",
           "a grey mouse", "a neighbour", "a young deer"]  # fmt: skip
SPOTS = ["under the big oak tree", "behind the old mill", "beside the well", "under the bridge", "between two stones",
         "in the tall grass", "on the top of the hill", "near the garden gate"]  # fmt: skip
FOODS = ["a warm loaf of bread", "a basket of apples", "a bowl of soup", "a jar of honey", "a plate of pancakes", "a big sweet pear",
         "a handful of nuts", "a pot of porridge"]  # fmt: skip
WEATHER = [
    "One sunny morning",
    "One cold day",
    "One windy afternoon",
    "One rainy day",
    "One quiet evening",
    "One spring morning",
]
ENDINGS = ["From that day on, they were good friends.", "That night {hero} slept very well.", "And {hero} never forgot that day.",
           "They laughed and went home together.", "Everybody was happy.", "{hero} smiled all the way home."]  # fmt: skip

PLOTS = [
    "{weather}, {hero} could not find the {thing}. {hero} looked in the house and in the yard, but it was not there. \"Where can it be?\" asked {hero}. {Helper} heard this and said, \"I saw it {spot}.\" They went there together, and there it was. \"Thank you!\" said {hero}. {hero} let the new friend hold the {thing} for a while. {ending}",
    "{weather}, {hero} found a {thing} {spot}. It was very pretty, and {hero} wanted to keep it. But then {helper} came by and looked sad. \"I have lost my {thing},\" said the stranger. {hero} thought for a moment. Then {hero} gave it back. The stranger was so glad that they ate {food} together. {ending}",
    "{weather}, {hero} wanted to cross the water, but the bridge was broken. {hero} pulled a long piece of wood to the place, but it was too heavy. Then {helper} came and took the other end. \"One, two, three!\" they called, and the wood lay over the water. Now everybody could cross again. To thank each other they shared {food}. {ending}",
    "{hero} had {food}. It smelled wonderful. {weather}, {helper} knocked at the door and said, \"I have walked a long way and I am hungry.\" {hero} wanted to eat everything alone, but it did not feel right. So {hero} put half of it on a second plate. They sat {spot} and ate. \"It tastes better together,\" said {hero}. {ending}",
    "{hero} was afraid of the dark. {weather}, the lamp went out and {hero} was alone. Something made a noise {spot}. {hero} took a deep breath and went to look. It was only {helper}, who had lost the way. \"I was afraid too,\" said the visitor. They lit a small light and told each other stories. {ending}",
    "{weather}, {hero} planted a seed {spot}. Every day {hero} gave it water, but nothing happened. \"It will never grow,\" said {hero}. {Helper} said, \"You must be patient.\" So {hero} waited for many days. At last a small green leaf came out of the ground, and in summer there was a beautiful flower. {ending}",
    "{hero} told everybody, \"I am the fastest of all!\" {weather}, {helper} asked for a race to the old gate. {hero} ran very fast, saw a {thing} on the way and stopped to play. The other one was slow, but did not stop. When {hero} looked up, the race was over. \"You won,\" said {hero}. \"Next time I will not stop.\" They both laughed. {ending}",
    "{weather}, {hero} broke a {thing} that belonged to {helper}. Nobody had seen it. {hero} could have run away, but went to the house and said, \"I am sorry. I broke it.\" \"Thank you for telling me,\" was the answer. \"Let us mend it.\" They worked until the evening, and it was as good as new. {ending}",
    "{weather}, a letter came for {hero}. It said, \"Please come {spot}. There is a surprise.\" {hero} put on a coat and went. On the way {hero} met {helper}, who had the same letter. When they arrived, all their friends were there with {food} and a {thing}. It was a party! They sang and danced. {ending}",
    "{hero} wanted to learn to play music. {weather}, {hero} sat {spot} and tried and tried, but it sounded terrible. \"I cannot do it,\" said {hero}. {Helper} listened and said, \"Try it slowly. Do a little every day.\" {hero} did so. After some weeks the song was so beautiful that everybody came to listen. {ending}",
    "It had rained for three days. {weather}, the rain stopped and {hero} went outside. {helper_cap} sat {spot} and was wet and cold. {hero} brought a blanket and {food}. \"You are very kind,\" said the guest, and gave {hero} a {thing}. {ending}",
    "{weather}, there was a loud cry for help. {hero} ran and found {helper} in a deep hole {spot}. {hero} was too small to pull alone. So {hero} fetched a long rope and tied it to a tree. Step by step the poor friend climbed out. \"You saved me!\" In the evening they had {food}. {ending}",
]  # fmt: skip
REQUESTS = ["Tell me a story about a {kind}.", "Can you tell me a story about a {kind}?", "Please write a short story about a {kind}.",
            "I would like to hear a story about a {kind}.", "Write a little story about a {trait} {kind} named {hero}.",
            "Tell me a story about a {kind} named {hero}.", "Please tell a story about a {trait} {kind}.",
            "Tell me a story about a {kind} and a {thing}."]  # fmt: skip
STARTS = ["Once upon a time, there was a {trait} {kind} named {hero}. {hero} lived {place}.", "There was once a {trait} {kind} called {hero}, who lived {place}.",
          "A {trait} {kind} named {hero} lived {place}.", "Once there lived a {trait} {kind} {place}. The name of the {kind} was {hero}."]  # fmt: skip


def with_article(text: str) -> str:
    """`text` with "a" turned into "an" before a vowel."""
    for vowel in "aeiou":
        text = text.replace(f" a {vowel}", f" an {vowel}").replace(f"A {vowel}", f"An {vowel}")
    return text


def tell_story(rng: random.Random) -> tuple[str, str]:
    """A request and a short story that fits it."""
    kind = rng.choice(list(HEROES))
    helper = rng.choice([h for h in HELPERS if kind not in h])
    slots = {
        "kind": kind,
        "hero": HEROES[kind],
        "helper": helper,
        "helper_cap": helper.capitalize(),
        "Helper": helper.capitalize(),
        "trait": rng.choice(TRAITS),
        "place": rng.choice(PLACES),
        "thing": rng.choice(THINGS),
        "spot": rng.choice(SPOTS),
        "food": rng.choice(FOODS),
        "weather": rng.choice(WEATHER),
    }
    ending = rng.choice(ENDINGS).format(**slots)
    plot = rng.choice(PLOTS)
    asks = [ask for ask in REQUESTS if "{thing}" in plot or "{thing}" not in ask]
    story = f"{rng.choice(STARTS)}\n{plot}".format(ending=ending, **slots)
    return with_article(rng.choice(asks).format(**slots)), with_article(story)
