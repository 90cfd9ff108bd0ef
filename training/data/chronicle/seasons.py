"""Filler prose by season: weather, fields and water."""

from __future__ import annotations

from training.data.chronicle.words import sentences

SEASONS: tuple[str, ...] = ("spring", "summer", "autumn", "winter")

MONTHS: dict[str, tuple[str, ...]] = {
    "spring": ("March", "April", "May"),
    "summer": ("June", "July", "August"),
    "autumn": ("September", "October", "November"),
    "winter": ("December", "January", "February"),
}

WEATHER: dict[str, tuple[str, ...]] = {
    "spring": sentences("""
        <Thin|Soft|Cold> rain <drifted in|came over the roofs|blew up> from the {spot} and the whole
            place smelt of {smell}.
        The {bird} were back <early|late|in good time>, {aside}.
        <Ice|Grey ice|The last ice> went down the river in plates, and the {folk} <cheered|watched|threw
            stones at> it {span}.
        {plant} showed first by the {spot}, then along the {spot}, then everywhere.
        A late frost <nipped|blackened|touched> the {plant} and left the {folk} {mood}.
        The mud by the {spot} took {thing.a}, a shoe, and <very nearly|all but> {beast.a}.
        {opener}, the sky turned {tint}, and {sound} could be heard as far as the {spot}.
        Lambs were <counted|carried|chased> past the {spot}, and the {elder} <said|declared|was sure>
            that {proverb}.
        The wind <swung|backed|went round> to the <south|west|south-west> and the washing dried between
            breakfast and {food}.
        There was hail <the size of peas|like gravel|in handfuls> over the {spot}, {aside}.
        Windows that had been <stuffed with rags|shut since the frost|papered over> were opened, and
            {sound} got in with the smell of {smell}.
        Bees were seen on the {plant} near the {spot}, and the {elder} took it for a sign of {hope}.
        {opener}, children came home with {plant} in their caps and mud <to the knee|to the ears|in
            every pocket>.
        The river stood <high|brown|loud> under the {spot} {span}, carrying {thing.a} nobody would own
            to."""),
    "summer": sentences("""
        Heat lay on the {spot} like {beast.a} asleep, and even the {folk} were {mood}.
        The dust of the {spot} got into the {food}, the beds, and the <sermon|ledgers|butter>.
        {opener}, thunder walked round the hills {span} and came to nothing, {aside}.
        {bird} <screamed over|hunted above|circled> the {spot} until the light was {tint}.
        The {folk} slept <on the roofs|by the open doors|under carts>, and {sound} kept the rest awake.
        Water was <carried|begged|drawn by night> from the {spot}, and the {elder} told anyone who would
            listen that {proverb}.
        A storm came <over the ridge|in from the flats|up the valley> with the sky {tint}, broke
            {thing.a}, and was gone before the {food} had cooled.
        The {plant} <flowered|withered|ran wild> by the {spot}, and the air was thick with {smell}.
        {opener}, boys swam below the {spot} with {beast.a}, and came home {mood}.
        Hay was <cut|turned|carted> past the {spot} in such loads that {thing.a} was swept off a sill
            and never found.
        Wasps took the {spot} and held it {span} against the {folk}.
        Long evenings were spent on <benches|doorsteps|upturned tubs> near the {spot}, with {food} and
            {sound}.
        The stream by the {spot} shrank to a <thread|trickle|string of pools>, and in one of them lay
            {thing.a}, {aside}.
        There was a night of <falling stars|sheet lightning|warm rain>, and the {elder} sat up for it
            with a dish of {food}."""),
    "autumn": sentences("""
        Fog <came up|stood|lay> between the {spot} and the {spot} {span}, and the {folk} walked with one
            hand on the wall.
        The {bird} gathered on the roof by the {spot}, argued {span}, and left.
        Leaves <choked|filled|hid> the {spot}, and {thing.a} was found under them, {aside}.
        {opener}, the first fires were lit, and everything from the {spot} to the {spot} smelt of {smell}.
        Rain <struck|drummed|fell> slantwise on the {spot}, and the light turned {tint} before {food}
            was on the table.
        The apples came down in <one night|a single gale|heaps>, and {beast.a} got drunk on them near
            the {spot}.
        Gales took {thing.a} from the {spot} and set it down <unharmed|upside down|in a pear tree>, {aside}.
        The {folk} laid up <turnips|peat|firewood> by the {spot} and spoke of {hope}.
        Mushrooms grew along the {spot} as <broad as plates|thick as thieves|pale as candles>, and there
            was {food} in every kitchen.
        {opener}, the geese were driven past the {spot} with tarred feet, to the sound of {sound}.
        A red moon <rose over|hung above|sat on> the {spot}, and the {elder} recalled that {proverb}.
        The {plant} turned {tint}, and {beast.a} was seen carrying some of it off, {aside}.
        First frost came <quietly|overnight|with the new moon> and stiffened {thing.a} on the line by
            the {spot}.
        Wet days followed one another like {folk} over a bridge, each {mood}, each with {food} at the
            end of it."""),
    "winter": sentences("""
        Snow <lay|settled|drifted> against the {spot} as high as {thing.a}, and paths were dug {span}.
        The pump by the {spot} froze <again|solid|with its mouth open>, and the {folk} thawed it with
            straw and bad language.
        {opener}, the sky was {tint} and so still that {sound} carried from the {spot}.
        Wolves were <heard|talked of|imagined> beyond the {spot}, though what came was only {beast.a},
            {aside}.
        The {elder} burned <an old chair|a cupboard door|half a fence> and sat in front of it with {food}.
        Ice on the {spot} bore the {folk} <by night|on the third day|before the week was out>, and there
            was {game} by the light of lanterns.
        Candles were <short|dear|counted>, so {span} people told stories near the {spot} and ate {food}.
        A thaw came <too soon|with dirty water|and was welcome>, and under the snow by the {spot} lay
            {thing.a}.
        The {bird} that had stayed were fed at the {spot}, {aside}.
        Wind got in <under doors|through the keyholes|at every pane>, and the {folk} went about {mood},
            wrapped to the eyes.
        {opener}, the river smoked with cold, and {sound} could be heard from the far bank.
        Sledges ran from the {spot} to the {spot} with {ware} under sacking and {beast.a} riding on top.
        The shortest day was <dark|bright|forgotten> until <noon|supper|the lamps>, when the {elder}
            pointed out that {proverb}.
        Frost drew {plant} upon the panes, and the rooms smelt of {smell} and {food}."""),
}

FIELDS: tuple[str, ...] = sentences("""
    The {folk} worked between the {spot} and the {spot} {span}, and came home {mood} and stained
        with {smell}.
    {opener}, {beast.a} got among the <beans|turnips|young barley>, {aside}.
    It was agreed over {food} that <soil|seed|the moon> mattered less than {hope}.
    The {elder} walked the furrows with {thing.a} and <shook his head|nodded at everything|said
        nothing>, for {proverb}.
    A scarecrow wearing {thing.a} was set up by the {spot} and frightened the {folk} more than the {bird}.
    Someone had sown {plant} by mistake, {aside}.
    {bird} followed the plough past the {spot}, {sound} behind them.
    The hedges were <laid|cut|argued over> {span}, and {plant} was burned in heaps that smelt of {smell}.
    A cart of {ware} <overturned|stuck fast|lost a wheel> near the {spot}, and half the {folk} came
        to advise.
    {opener}, it was found that mice had eaten <the seed corn|a sack of rye|the almanac>, and {cure}
        was proposed by the {elder}.
    {folk} from the next parish asked for <work|water|the loan of a scythe> and were given {food}.
    The boundary stone by the {spot} was found <leaning|moved|whitewashed>, and there was talk of {quarrel}.
    Two dogs and {beast.a} drove the flock from the {spot} to the {spot}, which took {span}.
    Of the ditches it need only be said that {thing.a} was pulled out of one, {aside}.""")

WATER: tuple[str, ...] = sentences("""
    Barges with {ware} <lay|waited|queued> below the {spot} {span}, and their crews bought {food}
        and onions.
    {opener}, {thing.a} came floating past the {spot}, followed by {beast.a} in good spirits.
    The ferry <ran aground|broke its rope|turned twice about> within sight of the {spot}, {aside}.
    Nets hung from the {spot} to the {spot}, and the place smelt of {smell}.
    The {elder} <caught|claimed to have caught|lost> a pike as long as {thing.a}, and the {folk}
        were {mood} about it {span}.
    Reeds were cut near the {spot}; {bird} rose from them with {sound}.
    The water stood at the <second|mossy|lowest> step of the {spot}, {tint} and very quiet.
    A boatload of {ware} was soaked, and all {span} it hung drying along the {spot}.
    Boys built a dam of <stones|turf|stolen staves> by the {spot}, until the {folk} wanted their
        stream again.
    {opener}, a drowned lantern was hooked up and hung, still dripping, by the {spot}, {aside}.
    Strangers rowed in for <water|bread|news>, ate {food} by the {spot}, and left with a parcel of {ware}.
    The eel traps held <nothing|a shoe|weed and sulks>, and over {food} it was repeated that {proverb}.
    {bird} nested under the {spot}, so the sluice was <left shut|opened by hand|not touched> {span}.
    Ropes were tarred by the {spot}, the wind carried the smell off, and the {folk} grew {mood}.""")
