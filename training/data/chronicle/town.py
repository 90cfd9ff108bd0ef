"""Filler prose of town life: markets, quarrels, feasts, letters, school, sickness, nights, talk, council."""

from __future__ import annotations

from training.data.chronicle.words import sentences

MARKET: tuple[str, ...] = sentences("""
    There was <too little|too much|no end of> {ware} at the market, and {ware} could be had for a
        <smile|song|button>.
    A stranger sold {ware} from a barrow near the {spot}, {aside}.
    {opener}, the scales were tried with <a brick|a known pound of nails|a sleeping child> and found
        <honest|light|no worse than their owner>.
    The {folk} bought {ware}, complained of the {ware}, and went home {mood} with {thing.a}.
    Somebody offered {beast.a} in exchange for {thing.a}, and the bargain was debated {span}.
    The stalls stretched from the {spot} to the {spot}, and over all of them hung the smell of {smell}.
    {ware} that nobody wanted at the {spot} went quickly at the {spot} as something rarer.
    One heard {sound} behind the booths and ate {food} in front of them.
    The {elder} bought {thing.a}, regretted it {span}, and sold it to the {folk}.
    {opener}, {beast.a} ran under the trestles and brought down a tower of {ware}, {aside}.
    Bad coin turned up in the <fish|candle|poultry> boxes, and everyone bit everyone else's money {span}.
    Buyers from the coast asked only for {ware}; they paid in {ware} and <promises|silver|gossip>.
    It was a market of <long faces|full baskets|wet awnings>, with more {food} eaten than {ware} sold.
    A man who praised his own {ware} too loudly was told by the {elder} that {proverb}.""")

DISPUTE: tuple[str, ...] = sentences("""
    Two <neighbours|cousins|brothers-in-law> fell out over {quarrel}, and the {folk} took sides {span}.
    The quarrel about {quarrel} was brought before the clerk, who {excuse} and went to lunch.
    One party threw {thing.a}; the other {excuse}.
    {opener}, peace was made by the {spot} over {food}, {aside}.
    The {elder}, asked to judge between them, said only that {proverb}.
    What began with {quarrel} went on to {quarrel}, as such things do.
    Witnesses were heard {span}: the first {excuse}, the second {excuse}.
    For want of better proof, {beast.a} was led before the bench, {aside}.
    The fine was paid in {ware}, and grudgingly, near the {spot}.
    A line was chalked from the {spot} to the {spot}, and rain <washed it off|settled the
        question|took no side>.
    Neither would greet the other at the {spot}, and both sent for {cure}.
    {opener}, someone laid {thing.a} on the wrong doorstep, and {quarrel} had to be argued again.
    The {folk} made a song about {quarrel}, with eleven verses and {sound} between them.
    It ended, as it had begun, with {food}, and the street was {mood}.""")

FEAST: tuple[str, ...] = sentences("""
    On the feast day there was {game} by the {spot} and {food} for whoever came.
    Garlands of {plant} were hung from the {spot} to the {spot}, and {beast.a} ate most of them.
    The {folk} walked in <procession|pairs|no order at all> past the {spot} with candles and {sound}.
    {opener}, {game} ended in an argument about {quarrel}, {aside}.
    A prize of {ware} went unclaimed, since the winner {excuse}.
    The players set up their boards near the {spot} and acted the story of a king and {beast.a} {span}.
    There was so much {food} that the {elder} had to be brought home in a barrow, {mood}.
    Fireworks were <promised|damp|seen by some>, and in their place one heard {sound}.
    Children dressed as {bird} ran between the {spot} and the tables, sticky with {food}.
    The band had one drum, {thing.a} and a great deal of feeling, {aside}.
    Everybody wore {plant}, and the air by the {spot} was heavy with {smell}.
    {opener}, the dancing <broke|wore out|shook loose> {thing.a}, but it went on {span}.
    The speech was about {hope}, lasted longer than the {food}, and closed with the remark that {proverb}.
    Next day the {spot} was strewn with {plant}, and the {folk} were {mood}.""")

LETTERS: tuple[str, ...] = sentences("""
    The post brought <news of|a pamphlet about|three pages on> {hope}, and it was read aloud by the {spot}.
    "We are all well," ran one letter, "apart from {quarrel}, and we long for {food}."
    A parcel came without a name on it; inside were {ware}, {thing.a}, and a smell of {smell}.
    "You would not know the {spot}," wrote a son from abroad, "for it is nothing but {ware} and
        {sound} now."
    {opener}, the carrier lost the bag near the {spot}, and it was returned by {beast.a}, {aside}.
    The {elder} dictated a letter to the schoolmistress {span}, and then decided that {proverb}.
    "Send {cure}," said a note in a hurried hand, "and do not tell the {folk}."
    An envelope lay by the {spot} {span}, with the ink running, until someone who was {mood} opened it.
    The answer was written on the back of a receipt for {ware}, {aside}.
    "Here the {bird} are gone," somebody's sister wrote, "and we quarrel about {quarrel} to keep warm."
    Old letters were found in a wall near the {spot}: they spoke of {hope} and of {food}.
    {opener}, a page blew out of a window and was read by {folk}, who grew {mood}.
    A request for {ware} came in such fine handwriting that it was <framed|copied|granted>.
    The wax was {tint}, the message short: {proverb}.""")

SCHOOL: tuple[str, ...] = sentences("""
    The schoolroom <roof leaked|stove smoked|clock stopped> during {lesson}, {aside}.
    {lesson} was taught {span} to the smell of {smell}.
    A pupil who could not do {lesson} could, it turned out, imitate {beast.a}.
    {opener}, the inspector asked about {lesson} and was told that {proverb}.
    Slates were <cracked|scarce|used as trays>, and {food} was passed along under the desks.
    The bigger ones were let off {lesson} to help the {folk} near the {spot}.
    There was {game} at the break, and {quarrel} afterwards.
    {beast.a} came in at the door during {lesson} and was the only one who sat still.
    A prize for {lesson} was a book with {thing.a} on the cover.
    {opener}, all were kept in because of {thing.a}, and every one of them {excuse}.
    Through the window came {sound}, and {lesson} suffered.
    The youngest recited {lesson} by the {spot} to an audience of {bird}.
    A map was drawn on the floor in {ware}, from the {spot} to the edge of the world, and swept up {mood}.
    The {elder} came to speak on {lesson}, spoke on {hope}, and was thanked with {food}.""")

SICKNESS: tuple[str, ...] = sentences("""
    A cough went from the {spot} to the {spot}, and {cure} was tried, {aside}.
    The {folk} believed in {cure}; the {elder} held out for {cure}.
    {opener}, half the choir had lost its voice, and {sound} did service for the hymn.
    Doors near the {spot} were <limewashed|hung with {plant}|kept shut> {span}.
    The apothecary sold {cure} and, under the counter, {ware}.
    Those who took {food} recovered, and those who took {cure} recovered <later|too|and complained>.
    It passed like weather, leaving the {folk} thin and {mood}.
    A sick {beast} was given {cure} as well, and did better than its owner.
    {opener}, an old woman was wrapped in flannel by the stove and told everyone that {proverb}.
    The bedding was aired along the {spot}, where it took on the smell of {smell}.
    Someone dreamt of {beast.a} and {thing.a}, and woke up cured, {aside}.
    The doctor came as far as the {spot}, looked at a tongue, and prescribed {food}.
    Toothache raged {span}; even the {folk} spoke in whispers.
    There was a run on {plant}, which is <bitter|useless|good for the kidneys>, and on {ware}, which
        is not.""")

NIGHT: tuple[str, ...] = sentences("""
    The watch heard {sound} near the {spot} and found {beast.a}.
    A light was seen moving between the {spot} and the {spot} {span}; it was only the {elder} with
        {thing.a}.
    {opener}, the lamps by the {spot} went out one after another, {aside}.
    It was so quiet that you could hear {beast.a} breathe and the ice <tick|settle|sing> in the
        gutters, or think you did.
    A ghost was reported by the {folk}; it left behind it a smell of {smell} and a crumb of {food}.
    The watchman slept {span} on a heap of {ware}, and {excuse}.
    {bird} passed over in the dark with a noise like {sound}.
    Somebody sang by the {spot} until {thing.a} was thrown.
    The moon, {tint}, stood over the {spot}, and the {folk} could not sleep and were {mood}.
    {opener}, footprints led from the {spot} to the {spot} and stopped there.
    A bolt was tried, a dog spoke, and in the morning {thing.a} was gone.
    Those who sat up had {food} and talked of {hope} {span}.
    There was knocking at the shutters; it was a branch, or {beast.a}, or nothing, {aside}.
    The hours were called in the wrong order, which the {elder} excused by saying that {proverb}.""")

TALK: tuple[str, ...] = sentences("""
    It was said by the {spot} that {beast.a} had spoken; when pressed, the {folk} could not say in
        which language.
    The {elder} had it from the {elder} that there would be {hope} before long.
    {opener}, all the talk was of {quarrel}, and then, for a change, of {quarrel}.
    A rumour of {ware} went round {span} and left everyone {mood}.
    "Mark my words," said the {elder}, "{proverb}."
    Who had put {thing.a} on the <steeple|pump|alderman's chair> was asked {span} and not answered.
    The {folk} counted the {bird} and drew conclusions, {aside}.
    At the {spot} they spoke well of the dead, ill of the {folk}, and warmly of {food}.
    "I never liked the smell of {smell}," somebody said, and there was a silence {span}.
    {opener}, a fortune was told from {ware}: it promised {hope}, and a journey by {beast}.
    It is hard to write down a laugh, but there was one by the {spot}, and it concerned {thing.a}.
    Half the street held that {proverb}; the other half wanted {food}.
    A wager was laid on {beast.a}, to be paid in {ware}, {aside}.
    The oldest joke in the place, the one about {thing.a} and the bishop, was told once more near
        the {spot}.""")

COUNCIL: tuple[str, ...] = sentences("""
    The council sat {span} over {quarrel} and resolved to sit again.
    A motion in favour of {hope} was carried, opposed, and left lying near the {spot}.
    {opener}, the clerk read out the accounts for {ware}, and the aldermen grew {mood}.
    The drains by the {spot} were <discussed|smelt|deferred>, {aside}.
    A petition signed with crosses asked for {hope}; another, in the same ink, spoke against it.
    An alderman compared the town to {beast.a}, and was asked to withdraw {beast.a}.
    Notices went up at the {spot} against {game}, spitting, and {sound}.
    The chair was repaired with {ware}, so nobody leaned back {span}.
    {opener}, dues on {ware} were altered by a farthing, and the {folk} protested with {thing.a}.
    The minutes record <applause|a draught|a nosebleed>, {food}, and the observation that {proverb}.
    A committee was sent to inspect the {spot}; it returned {mood}, smelling of {smell}.
    It was proposed that the {elder} be thanked, {aside}.
    The inkwell had frozen, or dried, or been drunk by {beast.a}; the vote was taken with {ware}.
    They adjourned because of {sound} from the {spot}.""")

TRAVELLERS: tuple[str, ...] = sentences("""
    Pilgrims came through with {plant} in their hats and asked the way to the {spot}.
    A pedlar spread out {ware}, {ware} and {thing.a} by the {spot}, {aside}.
    {opener}, a coach stood at the {spot} {span}, and the passengers were fed on {food}.
    A wandering scholar gave a lecture on {lesson} to {folk} and {beast.a}.
    The soldiers who marched by were <muddy|singing|very young>, and one of them bought {thing.a}.
    A family with all its goods on a handcart rested near the {spot}, and was brought {food} and {ware}.
    {opener}, a painter sat before the {spot} {span} and made it {tint}.
    Tinkers mended {thing.a}, broke {thing.a}, and moved on, {aside}.
    The strangers spoke of towns where {ware} was eaten and {bird} were kept in the parlour.
    A juggler worked the {spot} with three eggs and {thing.a}; the {folk} were {mood}.
    A surveyor measured from the {spot} to the {spot} and would not say what for.
    The road was <dust|soup|stones> {span}, so that even the mail smelt of {smell}.
    {opener}, a monk with {beast.a} asked leave to sleep at the {spot}, and repaid it by remarking
        that {proverb}.
    Two musicians played {span} for {food}; it sounded like {sound}, but sadder.""")

TOPICS: dict[str, tuple[str, ...]] = {
    "market": MARKET,
    "dispute": DISPUTE,
    "feast": FEAST,
    "letters": LETTERS,
    "school": SCHOOL,
    "sickness": SICKNESS,
    "night": NIGHT,
    "talk": TALK,
    "council": COUNCIL,
    "travellers": TRAVELLERS,
}

GOSSIP: tuple[str, ...] = sentences("""
    {opener}, {P} was seen near the {spot} in conversation with {beast.a}.
    {P} <lent|lost|gave away> {thing.a} by the {spot}, {aside}.
    It amused the {folk} that {P} should sing so loudly over a plate of {food}, and {he} was teased {span}.
    {P} spoke to the council about {hope}, and sat down {mood}.
    "That is as may be," said {P}, who was {mood}, "but {proverb}."
    {P} slipped by the {spot} and was helped up by the {elder}, {aside}.
    {opener}, {P} stood at the {spot} {span}, listening to {sound}.
    {P} and the {elder} disagreed about {quarrel}, though without heat.
    When {quarrel} was argued at the {spot}, {P} {excuse}.
    {P} was given {food} at the {spot} and asked, very civilly, for more.
    {P} had a cold {span} and put {his} trust in {cure}.
    At {game} {P} was <beaten|unlucky|better than expected>, and the {folk} were {mood}.
    {P} read aloud by the {spot} from a letter about {hope}.
    {opener}, {P} crossed from the {spot} to the {spot} with a parcel of {ware}, {aside}.
    Nobody laughed louder than {P} when {beast.a} ran off with {thing.a}.
    {P} carried {plant} past the {spot} and would not say for whom.""")

COLOUR: tuple[str, ...] = sentences("""
    The {folk} had an opinion about it, and kept to it {span}.
    It was talked over at the {spot}, {aside}.
    The {elder} had seen it coming.
    The {elder} only remarked that {proverb}.
    This was written down at once, while {sound} came in at the window.
    It rained at the time, and the light was {tint}.
    Some were {mood} about it; most went on with their {food}.
    So it was told at the {spot}, and so it stands here.
    The news reached the {spot} before the {food} had gone cold.
    The clerk blotted the entry, {aside}.
    Afterwards there was {food}, to the sound of {sound}.
    Of this the {folk} made more than it deserved, {span}.
    One heard of it at the {spot}, between a word on {ware} and a word on {quarrel}.
    No more was made of it than of {thing.a} or a change in the wind.""")
