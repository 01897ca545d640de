"""Recognizes names that are not English: by their letters, and by words that are common in datasets."""

from __future__ import annotations

import re
import unicodedata

# English words and names with accents, as they are without them.
_BORROWED = frozenset(
    "a acai angstrom applique attache banh beyonce bezier blase brulee cafe canape chateau citroen cliche "
    "consomme cortege creme crepe curacao debutante decor decoupage deja doppelganger eclair elan emigre entree "
    "expose facade fete fiance fiancee flambe frappe garcon gewurztraminer glace gruyere haagen habanero "
    "jagermeister jalapeno lame mache macrame maitre mate matinee melee mi mobius moet musli naive nestle nino "
    "noel oeuvre ole pate pho pina pinata pique pokemon protege puree resume rontgen rose roue saute senor senora "
    "senorita skoda smorgasbord soiree souffle tiramisu touche toupee uber voila".split()
)
# What is common in datasets and no English word, by language; without accents.
_WORDS = {
    "German": "riss crack, risse crack, schlagloch pothole, schlagloecher pothole, kratzer scratch, delle dent, "
    "rost rust, strasse road, gehweg sidewalk, fussgaenger pedestrian, fussganger pedestrian, fahrrad "
    "bicycle, fahrzeug vehicle, lkw truck, pkw car, ampel traffic light, schild sign, verkehrszeichen "
    "traffic sign, baum tree, haus house, hund dog, katze cat, mensch person, apfel apple, flasche "
    "bottle, tisch table, stuhl chair, fenster window, schraube screw, rohr pipe, beton concrete, ziegel "
    "brick, gullydeckel manhole cover",
    "Spanish": "grieta crack, grietas crack, bache pothole, baches pothole, persona person, personas person, coche "
    "car, coches car, camion truck, bicicleta bicycle, semaforo traffic light, perro dog, perros dog, "
    "gato cat, gatos cat, arbol tree, arboles tree, botella bottle, silla chair, ventana window, manzana "
    "apple, oxido rust, alcantarilla manhole cover, vaca cow, caballo horse, hoja leaf, fresa strawberry",
    "French": "nid nest, voiture car, voitures car, pieton pedestrian, velo bicycle, chien dog, chiens dog, arbre "
    "tree, arbres tree, bouteille bottle, fenetre window, pomme apple, rouille rust, rayure scratch, "
    "personne person, vache cow, oiseau bird",
    "Italian": "crepa crack, buca pothole, macchina car, bottiglia bottle, sedia chair, finestra window, mela apple, "
    "albero tree, gatto cat, ruggine rust, graffio scratch",
    "Portuguese": "rachadura crack, trinca crack, buraco pothole, carro car, caminhao truck, cachorro dog, pessoa "
    "person, arvore tree, garrafa bottle, cadeira chair, janela window, ferrugem rust, folha leaf",
    "Turkish": "cukur pothole, catlak crack, araba car, insan person, kedi cat, kopek dog, agac tree, yaya "
    "pedestrian, kamyon truck, bisiklet bicycle, plaka license plate, sandalye chair",
    "Polish": "dziura pothole, pekniecie crack, samochod car, drzewo tree, czlowiek person",
    "Dutch": "scheur crack, fiets bicycle, vrachtwagen truck, stoel chair, raam window, verkeersbord traffic sign",
    "Indonesian": "lubang pothole, retak crack, retakan crack, jalan road, sepeda bicycle, truk truck",
}
_TRANSLATED = {
    word: english
    for words in _WORDS.values()
    for word, _, english in (entry.strip().partition(" ") for entry in words.split(","))
}
_WORD = re.compile(r"[^\W\d_]+")


def is_foreign(name: str) -> bool:
    """Whether a name is surely not English.

    That is an emoji alone, a word in another script or with accents (unless English has borrowed it), and a word of
    another language that is common in datasets.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", name))
    if not words:
        return any(unicodedata.category(sign) == "So" for sign in name)
    return any(map(_is_foreign, words))


def translated(name: str) -> str | None:
    """The English phrase for a name of one word that is common in datasets; None for others."""
    return _TRANSLATED.get(_plain(unicodedata.normalize("NFKC", name.strip())))


def _is_foreign(word: str) -> bool:
    names = [unicodedata.name(letter, "") for letter in word]
    if others := [name for name in names if not name.startswith(("LATIN", "MODIFIER"))]:
        return len(others) > 1 or not others[0].startswith("GREEK")  # a single Greek letter is a symbol
    plain = _plain(word)
    if plain in _TRANSLATED:
        return True
    return not word.isascii() and plain.removesuffix("s") not in _BORROWED and plain not in _BORROWED


def _plain(word: str) -> str:
    """In lower case and without accents: "Çukur" -> "cukur", "Straße" -> "strasse", "Łódź" -> "lodz"."""
    letters = unicodedata.normalize("NFD", word.lower().translate(_LETTERS))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


_LETTERS = str.maketrans({"ß": "ss", "ı": "i", "ł": "l", "ø": "o", "đ": "d", "æ": "ae", "œ": "oe"})
