"""What the bundled occupations answer to texts that say nothing of a trade, or that nobody can read.

The heads are those of a first start with the embedded encoder. No such text is `in`. How many are
`uncertain` is in docs/few-shot-heads.md, and printed with ``-s``.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from service.domain.types import Experience, Label
from service.inference.batch import Score, ScoredExperience, ScoringRequest
from service.inference.embedding_cache import EmbeddingCache
from service.inference.encoder import SideBySide
from service.inference.model_cache import ModelCache
from service.inference.scorer import Scorer
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import Settings
from service.telemetry.predictions import PredictionTally
from tests.support.measured import Measured

_ROWS = ("qwertyuiop", "azertyuiop", "asdfghjkl", "qsdfghjklm", "zxcvbnm", "wxcvbn")


def _mashed_keys(count: int) -> list[str]:
    """Runs of neighbouring keys and random letters, one to three words each."""
    chance = random.Random(20)  # noqa: S311  # no secret is made of it

    def word() -> str:
        length = chance.randint(4, 10)
        if chance.random() < 0.5:
            row = chance.choice(_ROWS)
            return "".join(row[(place + length) % len(row)] for place in range(length))
        return "".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=length))

    return [" ".join(word() for _ in range(chance.randint(1, 3))) for _ in range(count)]


# Occupations that are bundled, and others, as people write them who use these scripts.
CHINESE = [
    "高级软件工程师",
    "餐厅厨师长 负责厨房管理",
    "数据科学家",
    "夜班护士",
    "银行会计",
    "销售经理",
]
JAPANESE = ["料理長", "看護師", "データサイエンティスト", "営業部長", "機械学習エンジニア"]
KOREAN = ["소프트웨어 엔지니어", "간호사", "요리사", "데이터 과학자"]
ARABIC = ["مهندس برمجيات", "ممرضة في مستشفى", "طاه رئيسي", "محاسب", "عالم بيانات"]
HEBREW = ["מהנדס תוכנה", "אחות", "שף מטבח", "מדען נתונים"]
RUSSIAN = ["Инженер-программист", "Медсестра ночной смены", "Шеф-повар ресторана", "Бухгалтер"]
GREEK = ["Μηχανικός λογισμικού", "Νοσοκόμα", "Αρχιμάγειρας", "Λογιστής"]
THAI = ["วิศวกรซอฟต์แวร์", "พยาบาล", "หัวหน้าพ่อครัว", "นักบัญชี", "นักวิทยาศาสตร์ข้อมูล"]
HINDI = ["सॉफ्टवेयर इंजीनियर", "नर्स", "रसोइया", "लेखाकार"]
OTHER_SCRIPTS = [
    *CHINESE, *JAPANESE, *KOREAN, *ARABIC, *HEBREW, *RUSSIAN, *GREEK, *THAI, *HINDI,
]  # fmt: skip
OTHER_LANGUAGES = [
    "Softwareentwickler", "Krankenschwester", "Buchhalter", "Lagerarbeiter", "Ingeniero de software",
    "Enfermera", "Contable", "Camarero", "Inżynier oprogramowania", "Pielęgniarka", "Księgowa",
    "Muhasebeci", "Hemşire", "Magazziniere", "Infermiera", "Ragioniere", "Programátor",
    "Boekhouder", "Verpleegkundige", "Tanár",
]  # fmt: skip
EMOJI = ["🙂🙂🙂", "🚀", "👍👍", "🔥💯", "🎉🎊", "❤️", "😂😂😂😂", "🍕🍔", "💻", "🤖", "👩‍🍳", "👨‍⚕️"]
LOREM = [
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit.",
    "Sed do eiusmod tempor incididunt ut labore et dolore magna aliqua.",
    "Ut enim ad minim veniam, quis nostrud exercitation ullamco.",
    "Duis aute irure dolor in reprehenderit in voluptate velit.",
]
SIGNS = ["-", "--", "...", "???", "!!!", "/", "*", "_", "•", "—", ".", ",", "()", "#", "@"]
LETTERS = list("abcdefghijklmnopqrstuvwxyz")
NEARLY_EMPTY = [
    "CEO", "Stagiaire", "Intern", "N/A", "n/a", "NA", "null", "None", "Employé", "Employee",
    "Consultant", "Freelance", "Manager", "Directeur", "Bénévole", "Assistant", "PDG", "Other",
    "Autre", "Divers", "Student", "Étudiant", "Alternant", "Apprenti", "Test", "0", "1", "123", "2019",
]  # fmt: skip
OTHER_TRADES = [
    "Comptable fournisseurs", "Warehouse operator", "Professeure de mathématiques", "Electrician",
    "Conductrice de bus", "Key account manager", "Maçon", "Estate agent", "Jardinier paysagiste",
    "Primary school teacher", "Avocate en droit social", "HR business partner", "Plombier chauffagiste",
    "Journalist", "Vendeuse en prêt-à-porter", "Civil engineer", "Kinésithérapeute", "Truck driver",
    "Chargé de communication", "Legal secretary",
]  # fmt: skip

Answers = Callable[[Sequence[str]], list[tuple[Score, ...]]]


@pytest.fixture(scope="module")
def answers(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    """What the champions of a first start answer to titles."""
    home = tmp_path_factory.mktemp("unlike") / "home"
    shutil.copytree(prepared_home, home)
    settings = Settings(home=home)
    database = Database(settings.resolved_database_url)
    artifacts = ArtifactStore(settings.resolved_artifact_url, home / "cache")
    side_by_side = SideBySide(1)
    cache = ModelCache(database, artifacts, side_by_side, version_entries=1, encoder_bytes=1 << 30)
    cache.refresh()
    scorer = Scorer(database, cache.encoders, EmbeddingCache(0), PredictionTally())
    everything = cache.snapshot().all_champions()

    def answer(titles: Sequence[str]) -> list[tuple[Score, ...]]:
        found = scorer.score(
            [ScoringRequest(None, Experience(title=title), everything) for title in titles]
        )
        return [item.scores for item in found if isinstance(item, ScoredExperience)]

    yield answer
    side_by_side.close()
    database.close()


def _share_uncertain(answered: Sequence[tuple[Score, ...]]) -> float:
    labels = [score.label for scores in answered for score in scores]
    return labels.count(Label.UNCERTAIN.value) / len(labels)


@pytest.mark.parametrize(
    ("titles", "least_uncertain"),
    [
        (OTHER_SCRIPTS, 0.95),
        (EMOJI, 0.9),
        (SIGNS, 0.8),
        (_mashed_keys(200), 0.5),
        # What follows looks like French or English enough: it is `out`, which is no worse.
        (LETTERS, 0.0),
        (LOREM, 0.0),
        (NEARLY_EMPTY, 0.0),
        (OTHER_LANGUAGES, 0.0),
    ],
    ids=[
        "other scripts",
        "emoji",
        "punctuation",
        "mashed keys",
        "single letters",
        "lorem ipsum",
        "nearly empty",
        "other languages in Latin script",
    ],
)
def test_what_says_nothing_is_in_no_occupation_and_told_as_uncertain_where_it_is_seen(
    answers: Answers, measured: Measured, titles: list[str], least_uncertain: float
) -> None:
    answered = answers(titles)
    share = _share_uncertain(answered)
    measured("share that is uncertain", share, f"of {len(titles)} texts, by occupation")
    assert len(answered) == len(titles)
    wrong = {
        (title, score.occupation)
        for title, scores in zip(titles, answered, strict=True)
        for score in scores
        if score.label == Label.IN.value
    }
    assert wrong == set()
    assert share >= least_uncertain


@pytest.mark.parametrize("title", ["CEO", "-", "Stagiaire", "Intern", "N/A", "x", "asdfghjkl", "."])
def test_an_answer_that_is_not_in_has_a_score_below_the_threshold(
    answers: Answers, title: str
) -> None:
    """Who reads the score and not the label is not misled either."""
    (scores,) = answers([title])
    assert len(scores) == 7
    assert all(score.score < score.threshold for score in scores)


def test_titles_of_other_trades_are_out_and_not_uncertain(
    answers: Answers, measured: Measured
) -> None:
    """Or nothing above would mean anything."""
    answered = answers(OTHER_TRADES)
    share = _share_uncertain(answered)
    measured("share that is uncertain", share, f"of {len(OTHER_TRADES)} texts, by occupation")
    assert share <= 0.05
    assert all(score.label != Label.IN.value for scores in answered for score in scores)


@pytest.mark.parametrize(
    ("title", "occupation"),
    [
        ("Chef de cuisine", "chef"),
        ("Infirmière de nuit", "nurse"),
        ("Data scientist", "data-scientist"),
    ],
)
def test_titles_of_an_occupation_are_in(answers: Answers, title: str, occupation: str) -> None:
    (scores,) = answers([title])
    assert {score.occupation: score.label for score in scores}[occupation] == Label.IN.value
