"""Combines hand-written templates and facts into several thousand distinct short chats."""

from __future__ import annotations

import random
from collections.abc import Iterator

from chat_facts import (
    COLOURS,
    DAYS,
    DEFINITIONS,
    FOOD,
    GROUPS,
    HOMES,
    LEGS,
    MONTHS,
    NAMES,
    NUMBERS,
    OPPOSITES,
    PAST,
    PLURALS,
    SOUNDS,
    USES,
    YOUNG,
)  # fmt: skip
from chat_stories import tell_story, with_article
from chat_support import CASES, CLOSINGS, OPENINGS, PRODUCTS, SORRY, SYSTEMS

Pair = tuple[str, str]
Chat = dict[str, object]


def facts() -> Iterator[Pair]:
    """Every question about words, animals and things."""
    for thing, colour in COLOURS.items():
        yield f"What colour is {thing}?", f"{thing.capitalize()} is {colour}."
        yield f"Which colour does {thing} have?", f"It is {colour}."
        yield f"Tell me the colour of {thing}.", f"The colour of {thing} is {colour}."
    for word, other in OPPOSITES.items():
        yield f"What is the opposite of {word}?", f"The opposite of {word} is {other}."
        yield f'Give me the opposite of "{word}".', f"{other.capitalize()}."
        yield f"Which word means the opposite of {word}?", f'"{other.capitalize()}" is the opposite of "{word}".'
    for animal, sound in SOUNDS.items():
        yield f"What sound does a {animal} make?", f"A {animal} {sound}."
        yield f"What does a {animal} do when it makes a sound?", f"It {sound}."
        yield f"Which animal {sound}?", f"A {animal} {sound}."
    for animal, young in YOUNG.items():
        yield f"What is a young {animal} called?", f"A young {animal} is called a {young}."
        yield f"What do you call the baby of a {animal}?", f"It is called a {young}."
    for animal, home in HOMES.items():
        yield f"Where does a {animal} live?", f"A {animal} lives {home}."
        yield f"Tell me where I can find a {animal}.", f"You can find a {animal} {home}."
    for animal, food in FOOD.items():
        yield f"What does a {animal} eat?", f"A {animal} eats {food}."
        yield f"What is the food of a {animal}?", f"It eats {food}."
    for animal, legs in LEGS.items():
        count = NUMBERS[legs] if legs else "no"
        yield f"How many legs does a {animal} have?", f"A {animal} has {count} legs."
        yield f"Does a {animal} have four legs?", "Yes, it has four legs." if legs == 4 else f"No, it has {count} legs."
    for word, use in USES.items():
        name = word if word in ("soap", "scissors", "glasses") else f"a {word}"
        verb = "are" if word in ("scissors", "glasses") else "is"
        yield f"What {verb} {name} used for?", f"{name.capitalize()} {verb} used {use}."
        yield f"Why do people need {name}?", f"People need {name} {use}."
        yield f"What do I need {use}?", f"You need {name} {use}."
    for word, meaning in DEFINITIONS.items():
        for ask in (
            "What is {}?",
            "What does the word {} mean?",
            "Please explain the word {}.",
            "Define {}.",
            "Can you tell me what {} means?",
        ):
            yield ask.format(f'"{word}"'), meaning
    for word, plural in PLURALS.items():
        yield f"What is the plural of {word}?", f"The plural of {word} is {plural}."
        yield f"One {word}, two ...?", f"Two {plural}."
    for verb, past in PAST.items():
        yield f"What is the past of {verb}?", f"The past of {verb} is {past}."
        yield f"Today I {verb}. Yesterday I ...?", f"Yesterday I {past}."


def calendar() -> Iterator[Pair]:
    """Every question about days, months and counting."""
    for cycle, noun in ((DAYS, "day"), (MONTHS, "month")):
        for place, name in enumerate(cycle):
            after, before = cycle[(place + 1) % len(cycle)], cycle[place - 1]
            yield f"Which {noun} comes after {name}?", f"After {name} comes {after}."
            yield f"What {noun} follows {name}?", f"{after}."
            yield f"Which {noun} comes before {name}?", f"Before {name} comes {before}."
            yield f"What is the {noun} between {before} and {after}?", f"It is {name}."
    for place, day in enumerate(DAYS):
        yield f"Today is {day}. What day is tomorrow?", f"Tomorrow is {DAYS[(place + 1) % 7]}."
        yield f"Today is {day}. What day was yesterday?", f"Yesterday was {DAYS[place - 1]}."
        yield (
            f"Is {day} a day of the weekend?",
            f"{'Yes' if place > 4 else 'No'}, {day} is {'' if place > 4 else 'not '}part of the weekend.",
        )
    for number in range(2, 21):
        upward = ", ".join(NUMBERS[1 : number + 1])
        downward = ", ".join(reversed(NUMBERS[1 : number + 1]))
        yield f"Count to {NUMBERS[number]}.", upward.capitalize() + "."
        yield f"Please count from one to {NUMBERS[number]}.", upward.capitalize() + "."
        yield f"Count down from {NUMBERS[number]}.", downward.capitalize() + "."
        yield (
            f"Which number comes after {NUMBERS[number - 1]}?",
            f"{NUMBERS[number].capitalize()} comes after {NUMBERS[number - 1]}.",
        )
        yield f"How do you write {number} as a word?", f"{number} is written {NUMBERS[number]}."
        yield f"Is {number} even or odd?", f"{number} is {'odd' if number % 2 else 'even'}."


def sums() -> Iterator[Pair]:
    """Every small sum, difference, product and comparison."""
    for a in range(13):
        for b in range(13):
            yield f"What is {a} + {b}?", f"{a} + {b} = {a + b}."
            yield f"How much is {a} plus {b}?", f"{a} plus {b} is {a + b}."
            if b <= a:
                yield f"What is {a} - {b}?", f"{a} - {b} = {a - b}."
                yield f"How much is {a} minus {b}?", f"{a} minus {b} is {a - b}."
            if 0 < a < 11 and 0 < b < 11:
                yield f"What is {a} times {b}?", f"{a} times {b} is {a * b}."
            if a != b:
                yield f"Which number is bigger, {a} or {b}?", f"{max(a, b)} is bigger than {min(a, b)}."


def groups(rng: random.Random) -> Iterator[Pair]:
    """Questions about which kind of thing something is, and short lists."""
    names = list(GROUPS)
    for name, members in GROUPS.items():
        plural = {"piece of clothing": "pieces of clothing", "piece of furniture": "pieces of furniture"}.get(name, f"{name}s")
        for member in members:
            other = rng.choice([n for n in names if n != name])
            yield f"Is {member} a {name}?", f"Yes, {member} is a {name}."
            yield f"Is {member} a {other}?", f"No, {member} is a {name}."
            yield f"What kind of thing is {member}?", f"{member.capitalize()} is a {name}."
            odd = rng.choice(GROUPS[other])
            listed = rng.sample([m for m in members if m != odd], 3) + [odd]
            rng.shuffle(listed)
            yield (
                f"Which word does not belong: {', '.join(listed)}?",
                f"{odd.capitalize()} does not belong. The others are {plural}.",
            )
        for count in (2, 3, 4):
            for _ in range(5):
                chosen = rng.sample(members, count)
                answer = ", ".join(chosen[:-1]) + " and " + chosen[-1]
                yield f"Name {NUMBERS[count]} {plural}.", f"{answer.capitalize()}."
                yield f"Can you give me {NUMBERS[count]} {plural}?", f"Here are {NUMBERS[count]} {plural}: {answer}."


def word_problem(rng: random.Random) -> Pair:
    """A sum told as a small story."""
    name, other = rng.sample(NAMES, 2)
    thing = rng.choice(["apples", "books", "coins", "stamps", "pencils", "eggs", "balls", "cakes", "letters", "cups"])
    a, b = rng.randint(2, 12), rng.randint(1, 9)
    kept = max(a, b) - min(a, b)
    price = rng.randint(2, 9)
    return rng.choice(
        [
            (f"{name} has {a} {thing}. {other} gives {name} {b} more. How many {thing} does {name} have now?",
             f"{a} + {b} = {a + b}. {name} has {a + b} {thing}."),
            (f"{name} has {max(a, b)} {thing} and gives {min(a, b)} to {other}. How many are left?",
             f"{max(a, b)} - {min(a, b)} = {kept}. {kept} {'is' if kept == 1 else 'are'} left."),
            (f"{name} buys {b} {thing} for {price} euros each. How much does {name} pay?",
             f"{b} times {price} is {b * price}. {name} pays {b * price} euros."),
            (f"{name} has {a} {thing} and {other} has {b}. How many do they have together?",
             f"{a} + {b} = {a + b}. Together they have {a + b} {thing}."),
        ]
    )  # fmt: skip


def mood(rng: random.Random) -> Pair:
    """A short message and whether its writer sounds content."""
    thing = rng.choice(PRODUCTS)
    good = [f"I love my new {thing}.", f"The {thing} came quickly and works well.", f"What a beautiful {thing}!", f"I am very pleased with the {thing}.",
            f"The {thing} was cheap and good."]  # fmt: skip
    bad = [f"The {thing} broke after one day.", f"I am angry. The {thing} never came.", f"The {thing} is ugly and too expensive.", f"What a bad {thing}!",
           f"I do not want this {thing} any more."]  # fmt: skip
    is_good = rng.random() < 0.5
    message = rng.choice(good if is_good else bad)
    kind = "positive" if is_good else "negative"
    return rng.choice(
        [
            (f"Is this message positive or negative? {message}", f"{kind.capitalize()}."),
            (
                f'A customer writes: "{message}" Is the customer content?',
                f"{'Yes' if is_good else 'No'}, the message is {kind}.",
            ),
        ]
    )


def spelling(rng: random.Random) -> Pair:
    """A question about the letters of a word."""
    word = rng.choice([*PLURALS, *SOUNDS, *DEFINITIONS])
    return rng.choice(
        [
            (f"What is the first letter of {word}?", f"The first letter of {word} is {word[0].upper()}."),
            (f"What is the last letter of {word}?", f"The last letter of {word} is {word[-1].upper()}."),
            (f"How do you spell {word}?", "-".join(word.upper()) + "."),
            (f"How many letters does {word} have?", f"The word {word} has {len(word)} letters."),
        ]
    )


def support(rng: random.Random) -> Pair:
    """A customer's question and a polite short answer."""
    questions, answers = rng.choice(CASES)
    days = rng.randint(2, 14)
    slots = {
        "product": rng.choice(PRODUCTS),
        "days": NUMBERS[days] if rng.random() < 0.5 else str(days),
        "window": rng.choice(["14", "30", "28"]),
        "order": str(rng.randint(1000, 9999)),
        "few": NUMBERS[rng.randint(5, 10)],
        "when": rng.choice(["tomorrow", "next week", "on Monday", "on Thursday", "in two days", "today"]),
        "price": str(rng.randint(3, 7)),
        "over": rng.choice(["30", "40", "50"]),
        "sorry": rng.choice(SORRY),
    }
    question = rng.choice(OPENINGS) + rng.choice(questions).format(**slots)
    answer = f"{rng.choice(answers).format(**slots)} {rng.choice(CLOSINGS)}".strip()
    return question[0].upper() + question[1:], answer


def chat(*pairs: Pair, system: str = "") -> Chat:
    """A row of messages from questions and answers."""
    messages = [{"role": "system", "content": system}] if system else []
    for question, answer in pairs:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def build_chats(seed: int) -> list[Chat]:
    """About 7,500 distinct chats; the same seed gives the same rows."""
    rng = random.Random(seed)
    pairs = [(with_article(q), with_article(a)) for q, a in [*facts(), *calendar(), *sums(), *groups(rng)]]
    drawn = [
        make(rng) for make, count in ((word_problem, 350), (mood, 200), (spelling, 350), (support, 1500)) for _ in range(count)
    ]
    stories = [tell_story(rng) for _ in range(1600)]
    chats = [chat(pair) for pair in dict.fromkeys(pairs + drawn + stories)]
    chats += [chat(*rng.sample(pairs, 2)) for _ in range(200)]
    chats += [chat(support(rng), system=rng.choice(SYSTEMS)) for _ in range(300)]
    chats += [
        chat(support(rng), (rng.choice(["Thank you.", "Thanks a lot!", "Okay, thank you."]), "You are welcome!"))
        for _ in range(200)
    ]
    return chats
