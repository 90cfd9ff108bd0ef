"""Nouns and phrases of the filler prose. None is a name, a date, or a count that a question asks about."""

from __future__ import annotations


def phrases(text: str) -> tuple[str, ...]:
    """Return the phrases of a text, separated by ``;`` or line ends."""
    return tuple(part for line in text.split(";") for raw in line.splitlines() if (part := " ".join(raw.split())))


def sentences(text: str) -> tuple[str, ...]:
    """Return the templates of a text, one a line; a line that is indented further continues the one above."""
    made: list[str] = []
    lines = [line for line in text.splitlines() if line.strip()]
    first = len(lines[0]) - len(lines[0].lstrip())
    for line in lines:
        if len(line) - len(line.lstrip()) > first:
            made[-1] += " " + line.strip()
        else:
            made.append(line.strip())
    return tuple(made)


WORDS: dict[str, tuple[str, ...]] = {
    "elder": phrases("""
        old carter;ferryman's widow;toothless net-mender;retired bellringer;deaf charwoman
        one-eyed drover;grandmother by the pump;oldest of the rope-walkers;sexton's aunt
        lame soldier from the gatehouse;basket seller;blind fiddler;keeper of the toll book
        woman who sold eels;night porter;goose girl's uncle;lamplighter;washerwoman;retired pilot
        chandler's mother;stooped gardener;peddler of needles;hermit from the quarry"""),
    "folk": phrases("""
        apprentices;laundry women;carters;schoolchildren;fishwives;herdsmen;choirboys;dyers;stevedores
        reapers;bargemen;shopkeepers;milkmaids;night watchmen;thatchers;harvesters;quarrymen;hop-pickers
        travelling players;spinners;young clerks;charcoal men;shepherds;the older aldermen
        ferry passengers;grandmothers;lodgers"""),
    "ware": phrases("""
        tallow;onions;blue cloth;hemp rope;salted cod;raw wool;candles;beeswax;saddle leather;tin plate
        walnuts;barley;dried plums;lamp oil;goose feathers;soft cheese;ink;iron nails;rye flour
        smoked eels;linen thread;clay pipes;vinegar;turnips;honey;cider;clogs;oat straw;lime;pepper
        gingerbread;buttons;pear wood;red ochre;soap;mustard seed"""),
    "beast": phrases("""
        goat;gander;brindled dog;sow with a torn ear;blind horse;tame jackdaw;ram;heifer;stray cat;mule
        ferret;piebald pony;rooster;drove of pigs;hare;heron;swan;badger;bullock;hedgehog;raven;otter
        weasel"""),
    "spot": phrases("""
        fish steps;lower pump;washing stones;common pasture;drying loft;old sheepfold;turnpike
        weighing house;churchyard wall;tannery ditch;rope walk;cattle pound;back of the bakehouse
        lime kiln;market cross;long barn;ferry landing;orchard fence;customs shed;dye vats;malt house
        alder copse;salt pans;upper meadow;millrace;timber yard;pilgrims' stair;hay market
        north causeway;beech avenue;fulling pond;schoolroom porch"""),
    "food": phrases("""
        pea soup;barley bread;pickled herring;apple fritters;onion tart;boiled mutton;plum dumplings
        cold bacon;oatcakes;eel pie;baked pears;leek broth;curd cakes;roast chestnuts;black pudding
        buttermilk;rye crusts;mushroom stew;honey buns;salt pork and beans;quince jelly;hot cider
        fried sprats;cabbage rolls;nettle soup"""),
    "thing": phrases("""
        ladder;wheelbarrow;copper pan;left boot;fishing net;sundial;washing line;milk churn
        fiddle string;cartwheel;garden gate;pair of spectacles;bread peel;chimney pot;weathercock
        grindstone;dog collar;spinning wheel;straw hat;hymn book;bucket without a bottom;feather bed
        brass button;kettle lid;umbrella frame;saddle;butter mould;hen coop"""),
    "mood": phrases("""
        glum;merry;suspicious;content;quarrelsome;drowsy;hopeful;restless;hushed;stubborn
        wistful;giddy;out of temper;oddly polite;thoughtful;tired but cheerful;sour;patient;curious"""),
    "sound": phrases("""
        hammering;singing;the creak of carts;a dog barking at its echo;the slap of wet linen
        geese quarrelling;someone practising scales;rain in the gutters;the saw-pit
        children reciting tables;oars knocking;a loose shutter;wind under the tiles;boys whistling
        a badly played flute;axes in the copse;pigeons in the rafters"""),
    "smell": phrases("""
        tar;wet wool;new bread;apples;burning peat;crushed mint;hot iron;fish scales;sawdust;lilac
        boiled cabbage;hops;mud and reeds;candle smoke;hay;leather;roasting barley;seaweed;cut lime wood
        vinegar"""),
    "plant": phrases("""
        cowslips;nettles;bramble;wild garlic;sorrel;hawthorn;thistles;foxgloves;ivy;meadow saffron
        dog roses;reeds;chicory;elder;marsh marigold;clover;broom;honeysuckle;dock leaves;sloes;tansy
        violets"""),
    "bird": phrases("""
        swallows;rooks;lapwings;herons;starlings;wild geese;owls;swifts;jackdaws;gulls;finches;larks
        plovers;wagtails;curlews;blackbirds;wrens;cranes;fieldfares;sandpipers"""),
    "tint": phrases("""
        pewter;the colour of weak tea;yellow as old paper;grey as a slate;milk-white;copper;rust-red
        the blue of a bruise;dull silver;greenish;pearl;smoke-coloured;pale as whey
        the colour of a trout"""),
    "span": phrases("""
        for a week;from noon until the lamps were lit;for nine days;until the small hours
        for most of a fortnight;the whole of one afternoon;longer than anyone liked
        until the candles failed;all through the sermon;for an hour by the glass
        between breakfast and vespers;until the dogs lost interest;for three market days;until supper
        for half a morning"""),
    "quarrel": phrases("""
        a hedge;the price of eggs;a borrowed ladder;the right to hang nets;a smoking chimney
        whose turn it was to sweep;a spilled barrel;the pew by the stove;a crowing cock
        the width of a gate;a debt of candles;who had trodden on whose cabbages;a dripping gutter
        the ownership of windfalls;a broken pane;the tuning of a fiddle;an unpaid round of ale
        a missing apron;the shade of a walnut tree;a heap of ashes;the last clean towel;a card game
        a stolen recipe"""),
    "cure": phrases("""
        goose fat and thyme;vinegar on brown paper;a poultice of bran;elder wine
        a red thread round the wrist;honey in hot milk;sage tea;mustard baths;an onion under the pillow
        a spoonful of soot;chewing angelica;silence and blankets;camphor;walking backwards to the pump
        a slice of raw potato;peppermint;beef tea"""),
    "game": phrases("""
        skittles;blind man's buff;tug of war;draughts;leapfrog;greasy pole;quoits;sack races
        dice for walnuts;wrestling;hoop rolling;a contest of riddles;egg rolling;bowls;spillikins
        chasing a soaped pig"""),
    "lesson": phrases("""
        long division;the rivers of the realm;the catechism;copperplate hand;the use of the globe
        spelling;weights and measures;the lives of the saints;compound interest;the names of the winds
        simple Latin;singing in parts;mental arithmetic"""),
    "excuse": phrases("""
        had been at a christening;blamed the moon;pleaded a bad tooth;said the dog had begun it
        swore it was all a dream;claimed never to have seen the thing before;spoke of a misunderstanding
        named a cousin in the country;wept a little;offered a basket of plums;laid it on the weather
        recited a proverb;produced a witness who had heard nothing"""),
    "proverb": phrases("""
        a dry well teaches thrift;geese keep no secrets;the slow cart brings the load
        no roof is praised in June;a lent spade comes home blunt;trust the ferry, but learn to swim
        every fog has a far side;soup listens to nobody;two clocks agree by accident
        the wind pays no toll;a fence is a letter to a neighbour;what is swept is not yet clean
        even a crooked candle gives light;ask the river and you get the river's answer
        he who counts eggs must feed hens"""),
    "hope": phrases("""
        a better ferry;cheaper salt;an end to the mud;a good year for bees;new shutters
        the return of the players;a quieter neighbour;dry firewood;an honest pair of scales
        a longer summer;fewer speeches;a new bell rope;sound boots;a mild frost"""),
    "aside": phrases("""
        which surprised only the cat;as anyone could have foretold;though not everyone believed it
        and there the matter rested;to the great relief of the neighbours
        for reasons that were never clear;and a dog barked at the right moment;or so the story went
        while the gutters ran;and somebody laughed;with more noise than sense;in spite of the hour
        as was only decent;and it smelt of {smell};with {beast.a} looking on;to the sound of {sound}
        and nobody thought it strange;which the <clerk|parson|constable> noted with a sigh
        as {bird} went over;though the {spot} was slippery;and there was {food} for everybody
        under a sky that was {tint}"""),
    "opener": phrases("""
        as a rule;by all accounts;to be fair;in those weeks;towards evening;before first light
        on the whole;as it happened;about noon;after the bells;more than once;on a day of no importance
        while the kettles boiled;when the tide allowed;without warning;some days later
        on the second market day;during the washing;between two showers;at the hour when lamps are lit
        not long after;around that time;as the saying goes;as usual;for once;in the same week
        one grey morning;one bright noon;late one night"""),
}
