"""Lists that values of facts come from. The filler prose uses none of these words about a named person."""

from __future__ import annotations

from training.data.chronicle.words import phrases

VALUES: dict[str, tuple[str, ...]] = {
    "trade": phrases("""
        cooper;glazier;bookbinder;wheelwright;locksmith;saddler;potter;brewer;barber;midwife;tailor
        clockmaker;notary;tinsmith;falconer;gunsmith;organ builder;hatter;weaver;cobbler;sailmaker
        boatbuilder;stonemason;goldsmith;pewterer;parchment maker;beekeeper;vintner;farrier;tanner
        printer;engraver;glassblower;rat-catcher;coppersmith;cutler;furrier;gilder;bell-founder
        dancing master;lacemaker;plasterer;scrivener;soap boiler;spice merchant;upholsterer
        wood-carver;astronomer;herbalist;fletcher;miniature painter;puppet maker;map engraver
        wax modeller"""),
    "dish": phrases("""
        saffron trout;pigeon pie;stuffed marrow;almond pudding;lobster soup;venison pasty;caraway cake
        snail broth;pickled samphire;roast partridge;cherry soup;lentils with mint;rosewater custard
        crayfish butter;hazelnut cream;spinach fritters;turbot in wine;sour milk pancakes
        duck with figs;apricot tart;parsnip mash;oyster stew;juniper sausage;rhubarb fool
        smoked ham with mustard;ginger biscuits;carp in beer;raisin bread;celery sauce"""),
    "fear": phrases("""
        thunder;mirrors;moths;spiders;cellars;great heights;snakes;empty houses;comets;bats;toads
        masks;clockwork;wet stairs;bearded men;crowds;sleepwalkers;tax collectors;parrots;whirlpools
        church organs;eclipses;loose cattle;earthworms;fortune tellers;open umbrellas;deep water
        the colour red;left-handed barbers;statues"""),
    "creature": phrases("""
        magpie;tortoise;greyhound;parakeet;monkey;donkey;spaniel;billy-goat;peacock;terrier
        guinea fowl;squirrel;lynx;pug;tame fox;white rat;shire horse;marmot;cockatoo;nanny-goat"""),
    "produce": phrases("""
        marrows;gooseberries;pigeons;cheeses;onions;sweet peas;cider;rabbits;dahlias;hams;honey;pears
        needlework;leeks"""),
    "gift": phrases("""
        a shipowner;a cousin;an old schoolfellow;a publisher;a bishop;an aunt;a lawyer;a rival
        a prisoner;a stranger"""),
    "cause": phrases("""
        a dropped pipe;lightning;a cracked stove;a careless candle;hot ashes;a boy with matches
        a spark from the forge;a chimney full of soot;spilled brandy;a burning glass"""),
}

OBJECT_KINDS: tuple[str, ...] = phrases("""
        bell;lantern;chalice;sword;globe;clock;harp;drum;mirror;telescope;astrolabe;casket;anchor
        crown;banner pole;font""")

WORK_KINDS: dict[str, str] = {
    "Inn": "beds",
    "Mill": "millstones",
    "Bridge": "arches",
    "Orchard": "pear trees",
    "Stables": "stalls",
    "Brewery": "vats",
    "Vineyard": "rows of vines",
    "Dairy": "cows",
    "Foundry": "moulds",
    "Theatre": "benches",
    "Arcade": "shops",
    "Lock": "paddles",
    "Nursery": "glass frames",
    "Ropery": "spindles",
}
"""Kinds of works and what is counted in each."""

BUILDING_KINDS: tuple[str, ...] = phrases(
    "Tower;Chapel;Hall;Granary;Priory;Armoury;Vault;Almshouse;Observatory;Guildhouse;Treasury;Lighthouse"
)

STREET_KINDS: tuple[str, ...] = phrases("Row;Lane;Stair;Yard;Quay;Hill;Gate;Alley;Terrace;Court;Passage;Square")
