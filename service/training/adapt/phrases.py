"""Parallel French and English phrases that real experiences wrap around titles and skills.

Written for this project; each pair says the same thing in both languages, in the same order of
parts.
"""

from __future__ import annotations

INTRODUCTIONS: tuple[tuple[str, str], ...] = (
    ("Missions :", "Missions:"),
    ("Vos missions :", "Your missions:"),
    ("Missions principales :", "Main responsibilities:"),
    ("Mes responsabilités :", "My responsibilities:"),
    ("Tâches effectuées :", "Tasks performed:"),
    (
        "En tant que membre de l'équipe, vous serez chargé de :",
        "As a member of the team, you will be in charge of:",
    ),
    (
        "Au sein de notre entreprise, vous aurez pour rôle de :",
        "Within our company, your role will be to:",
    ),
    ("Rattaché au directeur, vous devrez :", "Reporting to the director, you will have to:"),
    (
        "J'ai été responsable des activités suivantes :",
        "I was responsible for the following activities:",
    ),
    ("Dans le cadre de ce poste, j'ai dû", "In this position, I had to"),
    ("Nous recherchons une personne capable de", "We are looking for someone able to"),
    ("Le ou la titulaire du poste devra", "The holder of the position must"),
    ("Description du poste :", "Job description:"),
    ("Activités :", "Activities:"),
    ("Réalisations :", "Achievements:"),
    ("Principales tâches et compétences :", "Main tasks and skills:"),
    (
        "Intégré à une équipe de dix personnes, j'étais chargé de",
        "As part of a team of ten people, I was in charge of",
    ),
    (
        "Sous la responsabilité du chef de projet, vous participerez à :",
        "Under the supervision of the project manager, you will take part in:",
    ),
    (
        "En collaboration avec les équipes métier, vous allez",
        "Working with the business teams, you will",
    ),
    ("Vous interviendrez chez nos clients pour", "You will work at our clients' sites to"),
    ("Stage de six mois :", "Six-month internship:"),
    (
        "Notre client, un acteur majeur de son secteur, recrute pour",
        "Our client, a major player in its sector, is hiring to",
    ),
    ("", ""),
    ("", ""),
    ("", ""),
)

SKILL_HEADINGS: tuple[tuple[str, str], ...] = (
    ("Compétences :", "Skills:"),
    ("Compétences requises :", "Required skills:"),
    ("Profil recherché :", "Required profile:"),
    ("Connaissances :", "Knowledge:"),
    ("Outils et méthodes :", "Tools and methods:"),
    ("Environnement technique :", "Technical environment:"),
    ("Vous maîtrisez", "You have a good command of"),
    (
        "De bonnes connaissances sont attendues dans les domaines suivants :",
        "Good knowledge is expected in the following areas:",
    ),
)

CLOSINGS: tuple[tuple[str, str], ...] = (
    ("", ""),
    ("", ""),
    ("", ""),
    ("", ""),
    ("", ""),
    ("", ""),
    ("Vous êtes titulaire d'un diplôme de niveau bac +5.", "You hold a master's degree."),
    (
        "Vous avez au moins trois ans d'expérience dans un poste similaire.",
        "You have at least three years of experience in a similar position.",
    ),
    (
        "Rigoureux et autonome, vous avez un bon esprit d'équipe.",
        "Rigorous and independent, you are a good team player.",
    ),
    ("Poste en contrat à durée indéterminée, à temps plein.", "Permanent full-time position."),
    ("Anglais courant exigé.", "Fluent English required."),
    ("Contrat de travail à durée déterminée de douze mois.", "Twelve-month fixed-term contract."),
    (
        "Des déplacements sont à prévoir dans toute la France.",
        "Travel throughout France is to be expected.",
    ),
    ("Débutant accepté, formation assurée.", "Beginners accepted, training provided."),
    (
        "J'ai travaillé en lien avec les clients et les fournisseurs.",
        "I worked with customers and suppliers.",
    ),
    (
        "Vous aimez le travail en équipe et savez vous adapter à des interlocuteurs variés.",
        "You like working in a team and can adapt to different people.",
    ),
    ("La connaissance du secteur serait un atout.", "Knowledge of the sector would be an asset."),
    (
        "Vous participez à l'amélioration continue des processus de l'entreprise.",
        "You take part in the continuous improvement of the company's processes.",
    ),
    (
        "Vous rendez compte de votre activité à votre responsable.",
        "You report on your work to your manager.",
    ),
    ("Salaire selon profil et expérience.", "Salary depending on profile and experience."),
    (
        "Dans ce cadre, vous assurez le suivi des dossiers et la qualité du service rendu.",
        "In this context, you monitor files and the quality of the service provided.",
    ),
    (
        "Poste à pourvoir dès que possible à Paris.",
        "Position to be filled as soon as possible in Paris.",
    ),
    (
        "Notre société est une entreprise innovante en forte croissance.",
        "Our company is an innovative and fast-growing business.",
    ),
    (
        "Vous travaillez dans un environnement international avec des outils modernes.",
        "You work in an international environment with modern tools.",
    ),
)

SENIORITY: tuple[tuple[str, str], ...] = (
    ("{} confirmé", "experienced {}"),
    ("{} junior", "junior {}"),
    ("{} senior", "senior {}"),
    ("Stage {}", "{} internship"),
    ("Alternance - {}", "Apprenticeship - {}"),
    ("{} (H/F)", "{} (M/F)"),
    ("{} F/H", "{}"),
    ("{} en CDI", "{} permanent position"),
    ("Responsable {}", "{} manager"),
    ("Assistant {}", "{} assistant"),
    ("Chef d'équipe {}", "{} team leader"),
    ("Apprenti {}", "apprentice {}"),
    ("Directeur {}", "{} director"),
    ("Consultant {}", "{} consultant"),
    ("{} indépendant", "freelance {}"),
)
